// Wires the page: files in, jobs out, theme.

import { call, createJob, upload } from "./api.js";
import { announce, byId, complain, h } from "./dom.js";
import { size, stateOf } from "./format.js";
import { showHistory } from "./history.js";
import { chosen, showModels } from "./options.js";
import { showResult } from "./result.js";
import { current, listen, onChange, put, select, setUpload } from "./store.js";

const RETRY_MODELS_MS = 2000;
let limits = { upload_bytes: Infinity };
let numUploads = 0;

onChange((job, known) => {
  showHistory();
  showResult();
  if (job && known && known.status !== job.status) announce(`${job.name}: ${stateOf(job)}`);
});

async function loadModels() {
  try {
    const found = await call("GET", "/api/models");
    limits = found.limits;
    showModels(found.models);
    byId("address").hidden = !found.fetch_urls;
    byId("samples").replaceChildren(...found.samples.map((sample) => h("button", {
      type: "button", class: "button", title: sample.about, onclick: () => start({ sample: sample.name }),
    }, sample.name.replaceAll("_", " "))));
    showHistory();
    showResult();
  } catch (problem) {
    complain(problem.message);
    setTimeout(loadModels, RETRY_MODELS_MS);
  }
}

async function start(fields) {
  try {
    const job = await createJob({ ...fields, ...chosen() });
    put(job);
    select(job.id);
  } catch (problem) {
    complain(problem.message);
  }
}

async function send(file) {
  if (file.size > limits.upload_bytes) {
    complain(`“${file.name}” has ${size(file.size)}; files of up to ${size(limits.upload_bytes)} are taken here: make it shorter, or lower its resolution.`);
    return;
  }
  const key = String(++numUploads);
  const show = (share) => setUpload(key, { key, name: file.name, share, abort: () => going.abort() });
  const going = upload(file, chosen(), show);
  show(0);
  try {
    const job = await going.done;
    setUpload(key, null);
    if (job === null) return;
    put(job);
    if (current() === null || numUploads === Number(key)) select(job.id);
  } catch (problem) {
    setUpload(key, null);
    complain(problem.message);
  }
}

function takeFiles(files) { for (const file of files) send(file); }

const drop = byId("drop");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("drop-over"); });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("drop-over"); });
}
document.addEventListener("drop", (event) => takeFiles(event.dataTransfer?.files ?? []));
byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", (event) => { takeFiles([...event.target.files]); event.target.value = ""; });
byId("options").addEventListener("submit", (event) => event.preventDefault());
byId("address").addEventListener("submit", (event) => { event.preventDefault(); start({ url: byId("url").value }); });

const theme = byId("theme");
function showTheme() {
  const dark = document.documentElement.dataset.theme === "dark";
  theme.setAttribute("aria-pressed", String(dark));
}
theme.addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try { localStorage.setItem("theme", next); } catch { /* storage is switched off: for this page only */ }
  showTheme();
});
showTheme();
loadModels();
listen();
