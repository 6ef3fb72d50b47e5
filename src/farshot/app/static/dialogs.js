// The list of keys, and pictures from the camera. A modal dialog keeps the focus, and gives it back when it is closed.
const keys = element.querySelector('.fs-keys');
const camera = element.querySelector('.fs-camera');
const video = camera.querySelector('video');
const said = camera.querySelector('[data-said]');
const shoot = camera.querySelector('[data-shoot]');
let stream = null;
let label = ''; // the class of what is taken
let taken = 0;

window.farshotKeys = () => { if (!keys.open) keys.showModal(); };

async function begin() {
  said.textContent = 'Your browser asks whether this page may use the camera.';
  try {
    const found = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 }, height: { ideal: 1080 } } });
    if (!camera.open) { found.getTracks().forEach((track) => track.stop()); return; } // closed in the meantime
    stream = found;
    video.srcObject = stream;
    await video.play();
    shoot.disabled = false;
    said.textContent = label ? `Pictures get the class ${label}.` : 'Pictures get no class.';
  } catch (error) {
    const why = { NotAllowedError: 'This page may not use the camera; allow it in the browser and open this again.',
      NotFoundError: 'There is no camera on this computer.' }[error.name];
    said.textContent = why ?? 'The camera cannot be used; another program may have it.';
  }
}

window.farshotCamera = (into) => {
  label = into;
  taken = 0;
  shoot.disabled = true;
  camera.showModal();
  if (navigator.mediaDevices?.getUserMedia) begin();
  else said.textContent = 'The camera can be used only where the page has a loopback or an https address.';
};

shoot.addEventListener('click', () => {
  const canvas = document.createElement('canvas');
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext('2d').drawImage(video, 0, 0);
  canvas.toBlob((file) => {
    taken += 1;
    window.farshotUploads.add([{ file, path: window.farshotUploads.named('camera', 'jpg') }], label);
    said.textContent = `${taken} ${taken === 1 ? 'picture' : 'pictures'} taken.`;
  }, 'image/jpeg', 0.95);
});
camera.addEventListener('close', () => {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
});
element.addEventListener('click', (event) => {
  if (event.target.closest('[data-close]')) event.target.closest('dialog').close();
});
