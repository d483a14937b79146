// The page: choose a file, look what the endpoint makes of its names, wait, look at the result.

import { address, ask, askJson, key, mapped, references, send } from "./api.js";
import { Cells } from "./cells.js";
import { mapCommand } from "./command.js";
import { byId, bytes, count, make, several, share } from "./dom.js";
import { describe } from "./preview.js";
import { Result } from "./result.js";

const SECTIONS = ["key", "start", "working", "preview", "result"];
const STAGES = {
  receiving: "Sending the file", waiting: "Waiting for other files to be done", reading: "Reading the file",
  mapping: "Mapping cells", writing: "Writing results", mapped: "Fetching results",
};

/** What may be somewhere else in a file than the endpoint looks, by the name of the option that says where. */
const PLACES = { proteins: "proteins-place", layer: "layer-place", gene_column: "genes-place" };

const state = { places: {}, info: null, reference: null, upload: null, file: null, stop: new AbortController(), result: null };

/** Show one section, and take the keyboard and the reader there. */
function show(name, focus = true) {
  for (const section of SECTIONS) byId(section).hidden = section !== name;
  if (focus) byId(`${name}-title`)?.focus();
}

function fault(...content) {
  byId("fault").replaceChildren(...content.map((one) => (typeof one === "string" ? make("p", {}, one) : one)));
  byId("fault").hidden = !content.length;
  if (content.length) byId("fault").focus();
}

/** Do something; what goes wrong is told, and `back` is where one goes on. */
async function attempt(work, back) {
  fault();
  try {
    return await work();
  } catch (error) {
    if (error.name === "AbortError") return null;
    if (error.status === 401) askForKey();
    else back(error);
    // Without a key, nobody has done anything wrong yet.
    if (error.status !== 401 || key.get()) fault(error.message);
    return null;
  }
}

function askForKey() {
  byId("about").textContent = "";
  show("key", false);
  byId("key-field").focus();
}

async function begin() {
  const retry = make("button", { type: "button", onclick: begin }, "Try again");
  const gone = (error) => {
    // An endpoint that is still loading says when it will be done.
    if (error.status === 503 && error.retryAfter) setTimeout(begin, error.retryAfter * 1000);
    else queueMicrotask(() => byId("fault").append(retry));
  };
  await attempt(async () => {
    const listed = await references();
    const select = byId("reference");
    select.replaceChildren(...listed.map(({ name, version, default: usual }) =>
      make("option", { value: `${name}@${version}`, selected: usual }, `${name} ${version}`)));
    byId("choose-reference").hidden = listed.length < 2;
    state.reference = listed.length ? select.value : null;
    await introduce();
    show("start", false);
  }, gone);
}

/** Say what a reference computes with, and what that costs, where it is not float32. */
function precision(cost) {
  if (!cost) return "";
  const changed = Math.max(...Object.values(cost.modes).map((mode) => mode.changed));
  return ` It is in ${cost.precision}: of the reference's own cells, ${share(changed)} have another label than in float32.`;
}

/** Say what cells will be mapped to. */
async function introduce() {
  const info = (state.info = await askJson(address("/v1/info", { reference: state.reference })));
  const { limits } = info;
  byId("about").textContent =
    `${info.name} ${info.version}: ${several(info.labels.length, "cell type")}, ${several(info.proteins.length, "protein")} and ` +
    `${several(info.n_genes, "gene")}, from ${several(info.provenance.n_cells, "cell")}.${precision(info.precision)}`;
  byId("accepted").textContent =
    `.h5ad, .h5mu or 10x .h5, with raw counts, up to ${bytes(limits.max_file_bytes)} and ${count(limits.max_file_cells)} cells`;
  byId("kept").textContent = several(Math.round(limits.kept_seconds / 60), "minute");
}

/** Forget the file that is here, and let the endpoint do so, too. */
function forget() {
  state.stop.abort();
  state.stop = new AbortController();
  state.result?.close();
  state.result = null;
  if (state.upload) ask(`/v1/uploads/${state.upload}`, { method: "DELETE", keepalive: true }).catch(() => {});
  state.upload = null;
}

function again() {
  forget();
  fault();
  show("start", false);
  byId("file").focus();
}

function wait(text, done = null) {
  const bar = byId("progress");
  if (done === null) bar.removeAttribute("value");
  else bar.value = done;
  if (byId("progress-text").textContent !== text) byId("progress-text").textContent = text;
}

function tooLarge(file, limit) {
  const reference = byId("choose-reference").hidden ? null : state.reference;
  const command = mapCommand(location.origin, file.name, reference, state.places);
  const copy = make("button", { type: "button", onclick: () => copied(command) }, "Copy");
  fault(
    `Expected a file of at most ${bytes(limit)}, found one of ${bytes(file.size)}; map it with the command line, which sends ` +
      "only what the reference needs, and can go on after an interruption:",
    make("div", { class: "command" }, make("code", {}, command), copy),
    key.get() ? "The key goes into the environment variable TOTALANVI_API_KEY." : "",
  );
}

async function copied(text) {
  await navigator.clipboard?.writeText(text).then(
    () => (byId("copied").textContent = "The command is copied."),
    () => (byId("copied").textContent = "The browser does not let this page copy; mark the command and copy it."),
  );
}

async function take(file) {
  forget();
  fault();
  const { limits } = state.info;
  state.places = Object.fromEntries(Object.entries(PLACES).map(([option, id]) => [option, byId(id).value.trim() || null]));
  if (file.size > limits.max_file_bytes) return tooLarge(file, limits.max_file_bytes);
  state.file = file;
  byId("working-title").textContent = "Looking at your file";
  byId("working-file").textContent = `${file.name}, ${bytes(file.size)}`;
  show("working");
  wait(STAGES.receiving, 0);
  return attempt(async () => {
    const progress = (done) => (done < 1 ? wait(`${STAGES.receiving}: ${Math.floor(done * 100)} %`, done) : wait(STAGES.reading));
    const { signal } = state.stop;
    const answer = await send(address("/v1/uploads", { reference: state.reference, ...state.places }), file, progress, signal);
    state.upload = answer.id;
    byId("preview-content").replaceChildren(...describe(answer.preview, file.name).filter(Boolean));
    byId("begin").textContent = `Map ${several(answer.preview.n_cells, "cell")}`;
    byId("impute").parentElement.hidden = !state.info.proteins.length;
    show("preview");
  }, () => show("start", false));
}

async function map() {
  const { signal } = state.stop;
  const url = `/v1/uploads/${state.upload}`;
  byId("working-title").textContent = "Mapping your cells";
  show("working");
  wait(STAGES.waiting);
  await attempt(async () => {
    const options = { impute: byId("impute").checked, reference: state.reference, name: state.file.name, ...state.places };
    await ask(address(`${url}/map`, options), { method: "POST", signal });
    await mapped(state.upload, ({ stage, cells, total }) => {
      if (stage === "mapping") wait(`${STAGES.mapping}: ${count(cells)} of ${count(total)}`, cells / total);
      else wait(STAGES[stage] ?? stage);
    }, signal);
    const landmarks = ask(address("/v1/landmarks", { reference: state.reference }), { signal });
    const [cells, behind] = await Promise.all([Cells.fetch(url, signal), landmarks.then((answer) => answer.arrayBuffer())]);
    show("result");
    state.result = new Result(cells, new Float32Array(behind), state.info, state.file.name, (work) => attempt(work, () => {}));
  }, () => show("preview", false));
}

function drops() {
  const drop = byId("drop");
  // A file that misses the place for it would replace this page.
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, () => drop.classList.add("over"));
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => event.dataTransfer.files.length && take(event.dataTransfer.files[0]));
  byId("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    // Or a browser says nothing when the same file is chosen again, mended meanwhile or sent in vain.
    target.value = "";
    if (file) take(file);
  });
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(byId("key-field").value.trim());
  byId("key-field").value = "";
  begin();
});
byId("reference").addEventListener("change", (event) => {
  state.reference = event.target.value;
  attempt(introduce, () => {});
});
byId("cancel").addEventListener("click", again);
byId("begin").addEventListener("click", map);
for (const button of document.querySelectorAll(".again")) button.addEventListener("click", again);
addEventListener("pagehide", (event) => event.persisted || forget());
drops();
begin();
