// Back and Forward of the browser go through the steps, and not away from the page.
const steps = () => [...document.querySelectorAll('[role=tab]')].filter((tab) => tab.textContent.match(/^\s*\d\./));
const nameOf = (tab) => tab.textContent.trim();
element.querySelector('[data-language]').value = window.farshotLanguage; // the page is built once for all of them
let here = null; // the step that is shown
let going = false;

function go(name) {
  const found = [...document.querySelectorAll('button')].filter((one) => nameOf(one) === name);
  going = true; // on a narrow page a step may be in the menu of those that do not fit
  (found.find((one) => one.matches('[role=tab]')) ?? found.find((one) => !one.closest('.visually-hidden')))?.click();
  going = false;
}

history.replaceState({ step: null }, '');
document.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  const name = button && steps().map(nameOf).find((one) => one === nameOf(button));
  if (!name || going || name === here) return;
  here = name;
  history.pushState({ step: name }, '');
});
window.addEventListener('popstate', (event) => {
  const step = event.state?.step ?? nameOf(steps()[0]);
  here = event.state?.step ?? null;
  go(step);
});
