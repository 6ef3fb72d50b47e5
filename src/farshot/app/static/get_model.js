// A click on a button of the list downloads the model that it names.
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-model]');
  if (button) trigger('act', { model: button.dataset.model });
});
