// The dashboard: what the parts know of each other. The model is changed by the one stream's events as they come, and
// drawn once a frame, only where it changed.

import { probe, readNode, readPath, Refused, STREAM } from './api.js';
import { keepChoice, keptChoice } from './choice.js';
import { byId, say, setHidden } from './dom.js';
import { oncePerFrame } from './frame.js';
import { Model } from './model.js';
import { Stream } from './stream.js';
import { EntriesView } from './view-entries.js';
import { EntryDialog, removeEntry } from './view-entry.js';
import { HeadView } from './view-head.js';
import { MachinesView, renderNode } from './view-machines.js';
import { PathsView } from './view-paths.js';
import { PlotView } from './view-plot.js';
import { RockView } from './view-rock.js';

/** How long a page that nobody sees keeps its connection: a browser has six for all pages of a node, in milliseconds. */
const REST_AFTER = 60_000;
/** How often ages and plots are drawn anew without an event, in milliseconds. */
const TICK = 1000;
/** How often the entries are drawn while the first view comes, in milliseconds: each drawing takes time from what comes. */
const DRAW_COMING = 200;
/** A rock that can't be washed here is read at most so often, in milliseconds. */
const READ_EVERY = 1000;

/** The page's clock: milliseconds since 1970 by the clock of the wall when the page was opened, whoever sets that later. */
const pageNow = () => performance.timeOrigin + performance.now();

const model = new Model();
const stream = new Stream(STREAM, {
  open: (url) => new EventSource(url),
  now: pageNow,
  wall: Date.now,
  setTimer: (call, ms) => setTimeout(call, ms),
  clearTimer: (timer) => clearTimeout(timer),
  random: Math.random,
  probe,
  onEvent: hear,
  onStatus: (status) => {
    head.status = status;
    draw();
  },
  onBack: (back) => {
    head.setBack(back, pageNow());
    draw();
  },
});

const draw = oncePerFrame(render);
const redrawEntries = () => {
  model.changed.add('entries');
  draw();
};
const redrawRock = () => {
  model.changed.add('rock');
  draw();
};
const head = new HeadView(model, { retry: () => stream.retry() });
const machines = new MachinesView(model, { look: (machine) => {
  look(machine, '');
  byId('entries').scrollIntoView();
  byId('entries-machine').focus({ preventScroll: true });
} });
const entries = new EntriesView(model, { look, open: (row) => dialog.open(row), remove, redraw: redrawEntries });
const dialog = new EntryDialog(model, { closed: (id) => id !== null && entries.focus(id) });
const paths = new PathsView(model, { view });
const rock = new RockView(model, { redraw: redrawRock });
const plot = new PlotView(model);
/** @type {string|null} */
let role = null;

/** @param {any} event @param {import('./topics.js').Topic[]} followed By the stream that it came on. */
function hear(event, followed) {
  model.apply(event, followed, pageNow());
  if (event.type === 'node' && event.node.role !== role) begin(event.node);
  if (wanted && event.type === 'machine' && event.machine.id === wanted.machine) {
    const { machine, space } = wanted;
    wanted = null;
    look(machine, space);
  }
  // A machine that is looked at alone may be released: then all the others are.
  if (event.type === 'gone' && model.looksAt?.machine === event.machine) look('*', '');
  // What was looked at before it was published, is published.
  const { path } = model;
  const isPublished = event.type === 'publication' && path?.subject.kind === 'publication' && path.word === 'no-state';
  if (isPublished && path.subject.path === event.publication.path && path.subject.agent === event.publication.agent) {
    path.word = null;
    stream.follow(topics());
  }
  draw();
}

/** @param {any} node The node has this role, the first time or after a restart. */
function begin(node) {
  role = node.role;
  model.node = node;
  for (const part of document.querySelectorAll('[data-role]')) {
    setHidden(/** @type {HTMLElement} */ (part), !(part.getAttribute('data-role') ?? '').split(' ').includes(node.role));
  }
  document.body.dataset.role = node.role;
  const machine = node.role === 'manager' ? '*' : node.id;
  model.lookAt(node.role === 'peer' ? null : { machine, space: '' });
  const kept = keptChoice(node.id);
  if (kept?.path && !model.path) model.lookAtPath(kept.path);
  // A machine may have been released since: it is looked at when the list says that it is there.
  wanted = kept && kept.machine !== null && kept.machine !== machine ? { machine: kept.machine, space: kept.space } : null;
  stream.follow(topics());
}

/** What was looked at before the page was loaded again. @type {{machine: string, space: string}|null} */
let wanted = null;

function keep() {
  keepChoice({ node: model.node.id, machine: model.looksAt?.machine ?? null, space: model.looksAt?.space ?? '', path: model.path?.subject ?? null });
}

/** @returns {import('./topics.js').Topic[]} */
function topics() {
  /** @type {import('./topics.js').Topic[]} */
  const all = [{ kind: 'node' }, { kind: 'publications' }, { kind: 'subscriptions' }];
  if (role !== 'peer') all.push({ kind: 'machines' }, { kind: 'claims' });
  if (model.looksAt) all.push({ kind: 'kv', machine: model.looksAt.machine, space: model.looksAt.space });
  if (model.path) all.push(model.path.subject);
  return all;
}

/** Looks at these entries. @param {string} machine @param {string} space */
function look(machine, space) {
  if (model.looksAt?.machine === machine && model.looksAt.space === space) return;
  model.lookAt({ machine, space });
  keep();
  stream.follow(topics());
  draw();
}

/** @param {import('./entries.js').Row} row */
async function remove(row) {
  await removeEntry(row, model.looksAt?.space ?? '');
  entries.focus(row.id);
}

/** Looks at this path. @param {import('./rock.js').PathState['subject']} subject */
function view(subject) {
  model.lookAtPath(subject);
  keep();
  stream.follow(topics());
  draw();
  byId('rock').scrollIntoView();
  byId('rock-title').focus({ preventScroll: true });
}

let reading = 0;
/** Reads a rock whose waves can't be washed here. */
async function readRock() {
  const { path } = model;
  if (!path?.needsRead || pageNow() - reading < READ_EVERY) return;
  reading = pageNow();
  try {
    path.read(await readPath(path.subject));
    redrawRock();
  } catch (error) {
    // It is tried again as long as it is looked at; a node that is gone has its own banner.
    if (error instanceof Refused && error.status !== 0) path.detail = error.message;
  }
}

/** Whether a second has passed since the plot was drawn. */
let ticked = true;
/** When the entries were drawn. */
let entriesDrawn = 0;

function render() {
  const now = pageNow();
  const changed = model.takeChanged();
  // The last event of the first view, or the next tick, draws what is left out here.
  const early = stream.status.state === 'catching up' && now - entriesDrawn < DRAW_COMING;
  if (early && changed.delete('entries')) model.changed.add('entries');
  head.render(now);
  if (changed.has('machines') || changed.has('claims') || ticked) machines.render(now);
  if (changed.has('machines')) entries.renderChoice();
  if (changed.has('entries') || model.entries.dying.length > 0) {
    entries.render(now);
    entriesDrawn = now;
  }
  if (changed.has('entries')) dialog.render();
  if (changed.has('paths') || ticked) paths.render(now);
  if (changed.has('rock')) rock.render();
  if (changed.has('node') && model.node) renderNode(model.node, now);
  if (ticked) plot.render(now);
  ticked = false;
}

setInterval(() => {
  ticked = true;
  readRock();
  if (!document.hidden) draw();
}, TICK);

/** @type {ReturnType<typeof setTimeout>|undefined} */
let resting;
document.addEventListener('visibilitychange', () => {
  clearTimeout(resting);
  if (document.hidden) resting = setTimeout(() => stream.rest(), REST_AFTER);
  else stream.wake();
});
addEventListener('online', () => stream.wake());
addEventListener('pageshow', () => stream.wake());

/** Asks who the node is, until it answers: what can be followed depends on its role. */
async function start() {
  try {
    begin(await readNode());
  } catch (error) {
    const refused = error instanceof Refused && [401, 403].includes(error.status);
    head.status = { state: refused ? 'refused' : 'gone', since: pageNow(), reason: /** @type {Error} */ (error).message, tries: 0, nextTry: null };
    if (refused) say('Open the dashboard by a new link.');
    setTimeout(start, refused ? 10_000 : 1000);
  }
  draw();
}
start();
