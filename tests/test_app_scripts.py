"""Scripts of the app's page, in Node: labels on their way to the app, and dropped folders."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from farshot.app.html import script, script_texts

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="there is no node on this machine")

PAGE = """
const said = [], listeners = {};
const place = () => ({
  setAttribute() {}, replaceChildren() {}, appendChild: place, addEventListener() {},
  set textContent(text) { said.push(text); },
});
const made = place();
Object.assign(globalThis, { window: globalThis, addEventListener() {}, location: { hostname: 'localhost' } });
globalThis.document = {
  baseURI: '', body: { appendChild: () => made }, createElement: () => made, getElementById: () => made,
  querySelector: () => null, querySelectorAll: () => [],
  addEventListener(name, then) { listeners[name] = then; },
};
Object.defineProperty(globalThis, 'navigator', { value: { language: 'en' }, configurable: true });
const quickly = (then, time) => setTimeout(then, time / 100);
"""


def run(scripts: str, program: str) -> Any:
    """What a program returns as JSON, in a page with these scripts."""
    whole = f"{PAGE}\n(async (setTimeout) => {{{script_texts()}\n{scripts}\n{program}}})(quickly)"
    done = subprocess.run(
        [
            str(NODE),
            "-e",
            f"{whole}.then((found) => process.stdout.write(JSON.stringify(found), () => process.exit()));",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


OUTBOX = """
const answers = STATUSES, got = [];
const server = require('node:http').createServer((request, answer) => {
  let body = '';
  request.on('data', (part) => { body += part; });
  request.on('end', () => {
    const status = answers.shift();
    got.push([status, ...JSON.parse(body).acts.map((act) => act.value)]);
    answer.writeHead(status, { 'content-type': 'application/json' });
    answer.end('{"version": 5}');
  });
});
await new Promise((go) => server.listen(0, '127.0.0.1', go));
document.baseURI = `http://127.0.0.1:${server.address().port}/`;
for (const value of ['a', 'b']) {
  outbox.add({ do: 'label', value, ids: ['x'], next: null });
  await outbox.drained();
}
return { got, said, hidden: made.hidden };
"""


def test_labels_that_the_app_does_not_take_now_are_sent_until_it_does() -> None:
    statuses = [403, 401, 409, 503, 200, 200]  # Node asks again by itself after 421
    found = run(script("outbox.js"), OUTBOX.replace("STATUSES", str(statuses)))
    assert found["got"] == [*([status, "a"] for status in statuses[:-1]), [200, "b"]]
    told = "\n".join(found["said"])
    assert told.count("does not let this page in. 1 change waits") == 3
    assert told.count("does not answer. 1 change waits") == 1
    assert (found["said"][-1], found["hidden"]) == ("", True)


@pytest.mark.parametrize("status", [400, 404, 413])
def test_what_the_app_will_never_do_is_not_sent_again(status: int) -> None:
    found = run(script("outbox.js"), OUTBOX.replace("STATUSES", str([status, 200])))
    assert found["got"] == [[status, "a"], [200, "b"]]
    assert any("does not know this page any more" in text for text in found["said"])


DROP = """
const got = [];
const server = require('node:http').createServer((request, answer) => {
  got.push(Object.fromEntries(new URL(request.url, 'http://x').searchParams));
  request.resume();
  request.on('end', () => answer.end('{"new": 1, "version": 1}'));
});
await new Promise((go) => server.listen(0, '127.0.0.1', go));
document.baseURI = `http://127.0.0.1:${server.address().port}/`;
const file = (name) => ({ isFile: true, name, file: (read) => read(new File(['x'], name)) });
const locked = (name) => ({ isFile: true, name, file: (_, lost) => lost(new Error('NotReadableError')) });
const folder = (name, ...entries) => ({
  isFile: false, name,
  createReader: () => ({
    readEntries: (read, lost) => (entries[0] === null ? lost(new Error()) : read(entries.splice(0, 1))),
  }),
});
const cats = folder('cat', file('1.jpg'), locked('2.jpg'), file('3.jpg'));
const entries = [locked('first.jpg'), cats, folder('closed', null), folder('dog', file('4.jpg'))];
listeners.drop({
  preventDefault() {}, target: {},
  dataTransfer: {
    types: ['Files'], files: [], items: entries.map((entry) => ({ webkitGetAsEntry: () => entry })),
  },
});
await ended;
return { got, said };
"""
BOX = """
const box = { dataset: { kind: '', into: '', later: '' }, offsetParent: {} };
const element = {
  querySelector: (what) => (what === '.fs-sending' ? made : box),
  addEventListener() {}, contains: () => true, classList: { toggle() {} },
};
const props = {}, watch = () => {};
let end;
const ended = new Promise((go) => { end = go; });
const trigger = (_, { last }) => { if (last) end(); };
"""


def test_of_a_dropped_folder_all_is_added_that_can_be_read_and_the_rest_listed() -> None:
    found = run(BOX + script("uploads.js") + script("drop.js"), DROP)
    assert sorted(one["name"] for one in found["got"]) == ["cat/1.jpg", "cat/3.jpg", "dog/4.jpg"]
    assert {one["wrapped"] for one in found["got"]} == {"0"}
    for place in ("first.jpg", "cat/2.jpg", "closed"):
        assert f"{place}: cannot be read on this computer." in found["said"]
    assert "6 files sent: 3 new, 3 refused. Looking at them." in found["said"]
