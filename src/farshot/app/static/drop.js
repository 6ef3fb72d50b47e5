// The box that takes pictures: chosen, dropped, or a whole folder. What is dropped elsewhere on the page goes to the
// box that is shown.
// The class that is chosen for them; empty where none is, which the field says in the page's language.
const into = () => {
  const { into: field, later } = element.querySelector('[data-into]').dataset;
  const chosen = field ? (document.querySelector(field)?.value ?? '') : '';
  return chosen === later ? '' : chosen;
};

// what lies in a dropped folder, at any depth; of what cannot be read the reason instead of the file
async function inside(entry, path) {
  const place = path + entry.name;
  const found = [];
  try {
    if (entry.isFile) return [{ file: await new Promise((read, lost) => entry.file(read, lost)), path: place }];
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((read, lost) => reader.readEntries(read, lost)); // a hundred at a time
      if (some.length === 0) return found;
      for (const one of some) found.push(...(await inside(one, `${place}/`)));
    }
  } catch (error) {
    return [...found, { path: place, reason: farshotText('cannot_read') }];
  }
}

async function dropped(data) {
  // these are gone once this function has waited
  const label = into();
  const loose = [...data.files].map((file) => ({ file, path: file.name }));
  const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const found = [];
  for (const entry of entries) found.push(...(await inside(entry, '')));
  uploads.add(entries.length > 0 ? found : loose, label, kind);
}

const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
const shown = () => element.querySelector('.fs-drop').offsetParent !== null;
const kind = element.querySelector('.fs-drop').dataset.kind; // a box of a kind takes only what is dropped on it
// where no box is shown, the first takes what comes
const other = (event) => event.target.closest?.('.fs-drop')?.dataset.kind;
const takes = (event) => (kind ? element.contains(event.target) : !other(event)
  && (shown() || (props.leads && ![...document.querySelectorAll('.fs-drop')].some((box) => box.offsetParent))));
const over = (on) => element.classList.toggle('fs-over', on && shown());

uploads.box(element, kind, (last) => trigger('received', { last }));
element.addEventListener('change', (event) => {
  if (!event.target.matches('[data-pick]')) return;
  const chosen = [...event.target.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
  event.target.value = '';
  uploads.add(chosen, into(), kind);
});
document.addEventListener('dragover', (event) => {
  if (!carries(event)) return;
  event.preventDefault(); // else the browser opens what is dropped
  over(takes(event));
});
document.addEventListener('dragleave', (event) => { if (!event.relatedTarget) over(false); });
document.addEventListener('drop', (event) => {
  over(false);
  if (!carries(event)) return;
  event.preventDefault();
  if (takes(event)) dropped(event.dataTransfer);
});
document.addEventListener('paste', (event) => {
  const found = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith('image/'));
  if (found.length === 0 || kind || !takes(event) || document.querySelector('dialog[open]')) return;
  event.preventDefault();
  uploads.add(found.map((file) => ({ file, path: uploads.named('pasted', file.type.slice(6).replace(/\W.*/, '')) })), into());
});
element.addEventListener('click', (event) => {
  if (event.target.closest('[data-camera]')) window.farshotCamera(into());
});
watch('taken', () => uploads.looked());
