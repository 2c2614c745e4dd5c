// The JSON API, with the page's CSRF token.

const token = document.querySelector("meta[name=csrf-token]").content;

/** An answer that is an error; `message` is a sentence for people. */
export class Problem extends Error {}

export async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, { method, body, headers: { "X-CSRF-Token": token } });
  } catch {
    throw new Problem("The page's server does not answer. Is it still running? Try again in a moment.");
  }
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(content.detail ?? `The server answered ${response.status}.`);
  return content;
}

/** A new job from fields other than a file. */
export function createJob(fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value !== null) form.set(name, value);
  return call("POST", "/api/jobs", form);
}

/** A new job from a file; `onprogress` gets a share of 0 .. 1, `abort()` of what is returned gives it up. */
export function upload(file, fields, onprogress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) if (value !== null) form.set(name, value);
    form.set("file", file, file.name);
    request.open("POST", "/api/jobs");
    request.setRequestHeader("X-CSRF-Token", token);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onprogress(event.loaded / event.total);
    request.onload = () => request.status === 202
      ? resolve(request.response)
      : reject(new Problem(request.response?.detail ?? `The server answered ${request.status}.`));
    request.onerror = () => reject(new Problem(`“${file.name}” could not be sent: the connection was lost. Try again.`));
    request.onabort = () => resolve(null);
    request.send(form);
  });
  return { done, abort: () => request.abort() };
}
