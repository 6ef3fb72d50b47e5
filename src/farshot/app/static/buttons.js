// Buttons that carry the picture, cell or field that they are about. What is typed stays when the page is drawn again.
let typed = null;
const field = () => element.querySelector('input[type=text]');

function press(button) {
  const { do: what, value, ids, from } = button.dataset;
  const given = from ? document.getElementById(from).value : (value ?? '');
  typed = null;
  outbox.add({ do: what, value: given, ids: ids ? [ids] : [], next: null });
}

element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-do]');
  if (button) press(button);
});
element.addEventListener('input', (event) => { if (event.target === field()) typed = field().value; });
element.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && event.target === field()) press(element.querySelector(`[data-from="${field().id}"]`));
});
watch('value', () => {
  const input = field();
  if (input) input.value = typed ?? input.getAttribute('value');
});
