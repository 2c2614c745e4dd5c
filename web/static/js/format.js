// Numbers and names for people.

export const percent = (share) => `${(share * 100).toFixed(1)} %`;

export const size = (bytes) => bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GB` : `${Math.round(bytes / 2 ** 20)} MB`;

export function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** 83 400 ms to 1:23. */
export function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  const parts = [Math.floor(seconds / 60) % 60, seconds % 60];
  const hours = Math.floor(seconds / 3600);
  return hours
    ? `${hours}:${String(parts[0]).padStart(2, "0")}:${String(parts[1]).padStart(2, "0")}`
    : `${parts[0]}:${String(parts[1]).padStart(2, "0")}`;
}

/** Who answered, and how. */
export function asked(options, models) {
  const name = options.member ?? models.find((model) => model.default)?.name ?? "default";
  const who = name === "ensemble" ? "all members" : name;
  const how = [options.tta === "off" ? null : `looking again: ${options.tta}`, options.abstain === false ? null : "no guesses"];
  return [who, ...how.filter(Boolean)].join(", ");
}

/** The label of an answer, or that there is none. */
export const labelOf = (result) => result.label ?? "unsure";

export const isOpen = (job) => job.status === "queued" || job.status === "running";

/** What is going on with a job, in a few words. */
export function stateOf(job) {
  if (job.status === "queued") return job.position ? `waiting, number ${job.position} in the queue` : "waiting";
  if (job.status === "running") {
    const stage = { queued: "starting", fetch: "fetching", decode: "decoding", server: "asking the server" }[job.stage];
    return job.progress === null ? stage : `${stage}, ${Math.round(job.progress * 100)} %`;
  }
  if (job.status === "failed") return "no answer";
  if (job.status === "cancelled") return "cancelled";
  const answer = job.result ?? job.timeline;
  return `${labelOf(answer)}, ${percent(answer.confidence)}`;
}
