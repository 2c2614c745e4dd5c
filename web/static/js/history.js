// The list of the session's videos: state, progress, cancelling, choosing one.

import { call } from "./api.js";
import { byId, complain, h, s } from "./dom.js";
import { asked, duration, isOpen, stateOf } from "./format.js";
import { allModels } from "./options.js";
import { all, current, pending, put, select } from "./store.js";

export function showHistory() {
  const focused = document.activeElement?.dataset?.key;
  const jobs = all();
  byId("history-empty").hidden = jobs.length + pending().length > 0;
  byId("history").replaceChildren(...pending().map(uploadRow), ...jobs.map(jobRow));
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function uploadRow(upload) {
  return h("li", { class: "row" },
    h("span", { class: "truncate font-medium" }, upload.name),
    h("span", { class: "quiet" }, `uploading, ${Math.round(upload.share * 100)} %`),
    bar(upload.share, `Upload of ${upload.name}`),
    h("button", { type: "button", class: "button self-start", "data-key": `abort-${upload.key}`, onclick: upload.abort }, "Cancel"));
}

function jobRow(job) {
  const kept = job.result?.from_cache;
  return h("li", {},
    h("button", {
      type: "button", class: "row", "data-key": job.id, "data-job": job.id, "data-status": job.status,
      "aria-current": current()?.id === job.id ? "true" : "false", onclick: () => select(job.id),
    },
      h("span", { class: "truncate font-medium" }, job.name),
      h("span", { class: "quiet" }, stateOf(job)),
      h("span", { class: "quiet text-xs" }, asked(job.options, allModels()),
        job.server_ms !== null && job.status === "done" ? ` · ${duration(job.server_ms)}` : null,
        kept ? " · from kept features" : null),
      job.status === "running" && job.progress !== null ? bar(job.progress, `Progress of ${job.name}`) : null),
    isOpen(job) ? h("button", {
      type: "button", class: "button mx-3 mb-2", "data-key": `cancel-${job.id}`, "aria-label": `Cancel ${job.name}`,
      onclick: () => cancel(job),
    }, "Cancel") : null);
}

export async function cancel(job) {
  try {
    put(await call("DELETE", `/api/jobs/${job.id}`));
  } catch (problem) {
    complain(problem.message);
  }
}

/** A share of 0 .. 1 as a bar; presentation by attributes, which the page's policy allows. */
export function bar(share, label, kind = "natural") {
  return s("svg", {
    class: "block w-full overflow-hidden rounded", height: "8", role: "progressbar", "aria-label": label,
    "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(share * 100)),
  },
    s("rect", { class: "track", width: "100%", height: "8" }),
    s("rect", { class: `fill-${kind}`, width: `${(share * 100).toFixed(2)}%`, height: "8" }));
}
