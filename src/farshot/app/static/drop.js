// The box that takes pictures: chosen, dropped, or a whole folder. Each file goes to the server on its own.
const AT_ONCE = 4;
let busy = false;

async function send(files) {
  if (busy || files.length === 0) return;
  busy = true;
  let done = 0;
  const waiting = [...files];
  const tell = (text) => { element.querySelector('.fs-sending').textContent = text; };
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const address = new URL('farshot/upload', document.baseURI);
      address.searchParams.set('name', next.path);
      try {
        await fetch(address, { method: 'POST', body: next.file, headers: { 'x-farshot': '1' } });
      } catch (error) {
        // the server breaks off what is too large; it tells why with the next answer
      }
      done += 1;
      tell(`${done} of ${files.length} sent`);
    }
  };
  tell(`0 of ${files.length} sent`);
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  tell('looking at them');
  trigger('received');
  busy = false;
}

// what lies in a dropped folder, at any depth
async function inside(entry, path) {
  if (entry.isFile) {
    const file = await new Promise((found, lost) => entry.file(found, lost));
    return [{ file, path: path + file.name }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((read, lost) => reader.readEntries(read, lost)); // a hundred at a time
    if (some.length === 0) return found;
    for (const one of some) found.push(...(await inside(one, `${path}${entry.name}/`)));
  }
}

element.addEventListener('change', (event) => {
  const chosen = [...event.target.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
  event.target.value = '';
  send(chosen);
});
element.addEventListener('dragover', (event) => {
  event.preventDefault();
  element.classList.add('fs-over');
});
element.addEventListener('dragleave', () => element.classList.remove('fs-over'));
element.addEventListener('drop', async (event) => {
  event.preventDefault();
  element.classList.remove('fs-over');
  // both are gone once this function has waited
  const loose = [...event.dataTransfer.files].map((file) => ({ file, path: file.name }));
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const found = [];
  for (const entry of entries) found.push(...(await inside(entry, '')));
  send(entries.length > 0 ? found : loose);
});
watch('taken', () => { element.querySelector('.fs-sending').textContent = ''; });
