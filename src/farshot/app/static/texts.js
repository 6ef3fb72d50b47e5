// Texts in the language of the page, for all other scripts. Gradio asks the browser for a language and gives it to the
// page, so the browser names the same one here.
(() => {
  const { language, texts } = FARSHOT_TEXTS;
  const shown = (value) => (typeof value === 'number' ? value.toLocaleString(language) : String(value));
  // values fill the text once, so that a name is never taken for a place in it
  window.farshotText = (key, values = {}) => {
    const found = texts[key];
    const text = typeof found === 'string' ? found : found[values.n === 1 ? 'one' : 'other'];
    return text.replace(/\{(\w+)\}/g, (place, name) => (name in values ? shown(values[name]) : place));
  };
  window.farshotLanguage = language;
  const mine = navigator.language.split('-')[0] === language ? navigator.language : language;
  Object.defineProperty(navigator, 'language', { get: () => mine });
  Object.defineProperty(navigator, 'languages', { get: () => [mine] });
  document.addEventListener('change', (event) => {
    if (!event.target.matches('[data-language]')) return;
    document.cookie = `farshot_language=${event.target.value}; path=/; max-age=31536000; samesite=strict`;
    location.reload();
  });

  // The browser asks before it leaves the page. Gradio would close its connection at the question, and load the page of
  // a person who stays once it misses it.
  window.farshotStay = (leaving) => {
    leaving.preventDefault();
    leaving.stopImmediatePropagation();
  };
})();
