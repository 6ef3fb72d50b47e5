"""The app: label, adapt, look, take away, in a browser.

    farshot app

Gradio makes the page and carries its events; what they do stands in farshot.workspace. A browser is known by
a cookie that only the server reads, and pictures come and go by routes that look at it, so nobody sees what
another browser brought.
"""
