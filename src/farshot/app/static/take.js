// A file that has to be made first is downloaded as soon as it is there: one press does both. What is wanted outlives
// this element, which Gradio may make again.
const wanted = (window.farshotWanted ??= new Set());

function take() {
  if (document.querySelector('#note .fs-fault')) wanted.clear(); // it could not be made
  [...wanted].forEach((name) => {
    const link = element.querySelector(`a[data-made="${name}"]`);
    if (!link) return;
    wanted.delete(name);
    link.click();
  });
}

element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-do=make]');
  if (button) wanted.add(button.dataset.value);
});
watch('value', take);
take();
