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
  said.textContent = farshotText('camera_asks');
  try {
    const found = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 }, height: { ideal: 1080 } } });
    if (!camera.open) { found.getTracks().forEach((track) => track.stop()); return; } // closed in the meantime
    stream = found;
    video.srcObject = stream;
    await video.play();
    shoot.disabled = false;
    said.textContent = label ? farshotText('camera_class', { name: label }) : farshotText('camera_no_class');
  } catch (error) {
    const why = { NotAllowedError: 'camera_not_allowed', NotFoundError: 'camera_none' }[error.name];
    said.textContent = farshotText(why ?? 'camera_busy');
  }
}

window.farshotCamera = (into) => {
  label = into;
  taken = 0;
  shoot.disabled = true;
  camera.showModal();
  if (navigator.mediaDevices?.getUserMedia) begin();
  else said.textContent = farshotText('camera_address');
};

shoot.addEventListener('click', () => {
  const canvas = document.createElement('canvas');
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext('2d').drawImage(video, 0, 0);
  canvas.toBlob((file) => {
    taken += 1;
    window.farshotUploads.add([{ file, path: window.farshotUploads.named('camera', 'jpg') }], label);
    said.textContent = farshotText('camera_taken', { n: taken });
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
