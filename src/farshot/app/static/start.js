// The list of projects: create, rename, delete, import. What the person reads is in one place above the list.
const said = document.getElementById('said');
const NO_ANSWER = farshotText('no_answer');

function tell(text, fault, more = []) {
  const line = document.createElement('p');
  line.className = fault ? 'fault' : '';
  line.textContent = text;
  said.replaceChildren(line);
  if (more.length > 0) {
    const list = document.createElement('ul');
    list.append(...more.map((one) => Object.assign(document.createElement('li'), { textContent: one })));
    said.append(list);
  }
  said.scrollIntoView({ block: 'nearest' });
}

async function ask(told) {
  let answer;
  try {
    answer = await fetch('farshot/projects', {
      method: 'POST',
      headers: { 'x-farshot': '1', 'content-type': 'application/json' },
      body: JSON.stringify(told),
    });
  } catch {
    tell(NO_ANSWER, true);
    return null;
  }
  if (answer.ok) return (await answer.json()).id;
  tell(await answer.text(), true);
  return null;
}

document.getElementById('create').addEventListener('submit', async (event) => {
  event.preventDefault();
  const id = await ask({ do: 'create', name: event.target.elements.name.value });
  if (id) location.assign(`p/${id}/`);
});

document.querySelectorAll('.projects li').forEach((row) => {
  const form = row.querySelector('.rename');
  const { id, name, pictures } = row.dataset;
  row.addEventListener('click', async (event) => {
    const what = event.target.closest('[data-do]')?.dataset.do;
    if (what === 'rename' || what === 'keep') {
      form.hidden = what === 'keep';
      if (what === 'rename') form.elements.name.select();
    }
    if (what !== 'delete') return;
    const all = farshotText('delete_project', { name, pictures: Number(pictures) });
    if (window.confirm(all) && await ask({ do: 'delete', id })) location.reload();
  });
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (await ask({ do: 'rename', id, name: form.elements.name.value })) location.reload();
  });
});

document.getElementById('import').addEventListener('submit', (event) => {
  event.preventDefault();
  const file = event.target.elements.file.files[0];
  const button = event.target.querySelector('button');
  const request = new XMLHttpRequest(); // fetch does not tell how much was sent
  const done = (text, fault, more) => {
    button.disabled = false;
    tell(text, fault, more);
  };
  button.disabled = true;
  tell(farshotText('sending', { name: file.name }));
  request.upload.addEventListener('progress', (sent) => {
    const share = Math.floor((100 * sent.loaded) / sent.total);
    tell(farshotText(share < 100 ? 'sending_share' : 'checking_file', { name: file.name, share }));
  });
  request.addEventListener('error', () => done(NO_ANSWER, true));
  request.addEventListener('load', () => {
    if (request.status !== 200) { done(request.responseText, true); return; }
    const { id, name, refused, more } = JSON.parse(request.responseText);
    if (refused.length === 0) { location.assign(`p/${id}/`); return; }
    const rest = more > 0 ? [farshotText('and_more', { n: more })] : [];
    done(farshotText('imported', { name }), false, [...refused, ...rest]);
  });
  request.open('POST', `farshot/import?name=${encodeURIComponent(file.name)}`);
  request.setRequestHeader('x-farshot', '1');
  request.send(file);
});
