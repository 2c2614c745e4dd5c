// The session's jobs as the server tells of them, and uploads on their way to it.

const jobs = new Map();
const uploads = new Map();
const listeners = [];
let selected = null;

export const onChange = (listener) => listeners.push(listener);
export const all = () => [...jobs.values()].sort((a, b) => b.created.localeCompare(a.created));
export const pending = () => [...uploads.values()].reverse();
export const current = () => jobs.get(selected) ?? null;

/** Jobs about the same file, first asked first. */
export function siblings(job) {
  const root = rootOf(job);
  return all().filter((one) => rootOf(one) === root).reverse();
}

export const rootOf = (job) => job.source ?? job.id;

export function put(job) {
  const known = jobs.get(job.id);
  jobs.set(job.id, job);
  tell(job, known);
}

export function select(id) {
  selected = id;
  tell(jobs.get(id) ?? null, null);
}

export function setUpload(key, value) {
  if (value === null) uploads.delete(key);
  else uploads.set(key, value);
  tell(null, null);
}

/** Hear of every change: at once, and again if the connection was lost. */
export function listen() {
  const source = new EventSource("/api/events");
  source.addEventListener("job", (event) => put(JSON.parse(event.data)));
}

function tell(job, known) {
  for (const listener of listeners) listener(job, known);
}
