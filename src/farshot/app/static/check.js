// How good the model is: the limit follows a slider.
const slider = () => element.querySelector('#fs-limit');
const steps = () => [...element.querySelectorAll('.fs-limit [data-wanted]')];

function say() {
  const input = slider();
  if (!input) return;
  const step = steps()[Number(input.value)];
  element.querySelector('#fs-limit-said').innerHTML = step.innerHTML; // the app's own text, escaped by it
  input.setAttribute('aria-valuetext', step.dataset.said);
}

element.addEventListener('input', (event) => { if (event.target === slider()) say(); });
element.addEventListener('change', (event) => {
  if (event.target !== slider()) return;
  outbox.add({ do: 'limit', value: steps()[Number(slider().value)].dataset.wanted, ids: [], next: null });
});
watch('value', () => {
  const input = slider();
  if (input) input.value = input.getAttribute('value'); // a redraw keeps what was dragged to otherwise
  say();
});
say();

// On a narrow page the answer that was asked for lies below the list: go there once it is drawn.
let asked = null;
document.addEventListener('click', (event) => {
  const tile = event.target.closest('#answers .fs-tile');
  if (tile) asked = tile.dataset.id;
});
new MutationObserver(() => {
  const panel = asked && document.querySelector(`#detail [data-picture="${asked}"]`);
  if (!panel) return;
  asked = null;
  if (window.matchMedia('(max-width: 48rem)').matches) panel.scrollIntoView({ block: 'start' });
}).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ['data-picture'] });
