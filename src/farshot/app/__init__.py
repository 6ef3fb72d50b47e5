"""The app: label pictures, adapt, review predictions and download the model in a browser.

    farshot app

Gradio renders the page and carries its events; `farshot.app.workspace` does the work. A browser is known by a
cookie that only the server reads, and pictures pass through routes that check it, so nobody sees the pictures
of another browser.
"""
