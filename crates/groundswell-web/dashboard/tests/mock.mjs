// A node that is none: it speaks openapi.json from memory, for the dashboard's and the clients' tests and for work on
// the page. Run it (`node mock.mjs [--port N] [--machines N] [--entries N] [--rate N] [--role ROLE]`), or import `Mock`.

import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

import { Kv, MockPath, splitTopic } from './mock-state.mjs';

const DASHBOARD = new URL('..', import.meta.url);
const OPENAPI = new URL('../../openapi.json', import.meta.url);
const TYPES = { js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', html: 'text/html; charset=utf-8' };
/** What the node sends with every page; the page has to live with it. */
export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
  "require-trusted-types-for 'script'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** @param {string} text */
export const idOf = (text) => createHash('sha256').update(text).digest('hex');

class Problem extends Error {
  /** @param {number} status @param {string} word @param {string} detail */
  constructor(status, word, detail) {
    super(detail);
    this.status = status;
    this.body = { type: `urn:groundswell:problem:${word}`, title: word.replaceAll('-', ' '), status, detail };
  }
}

export class Mock {
  /**
   * @param {{machines?: number, entries?: number, rate?: number, role?: 'manager'|'machine'|'peer',
   *   heartbeat?: number, paths?: boolean}} [options] `rate` is changes a second of the whole fleet; 0: only by hand.
   */
  constructor(options = {}) {
    const { machines = 3, entries = 12, rate = 0, role = 'manager', heartbeat = 10_000, paths = true } = options;
    this.options = { machines, entries, rate, role, heartbeat, paths };
    this.id = idOf('node');
    this.role = role;
    this.startedMs = Date.now();
    this.run = randomBytes(8).toString('hex');
    /** @type {Set<Stream>} */
    this.streams = new Set();
    /** @type {Map<string, {machine: object, kv: Kv}>} */
    this.machines = new Map();
    /** @type {Map<number, object>} */
    this.claims = new Map();
    /** @type {Map<string, MockPath>} */
    this.publications = new Map();
    /** @type {Map<string, MockPath>} */
    this.subscriptions = new Map();
    /** @type {string[]} Each request as `METHOD path`, for tests that ask what was asked. */
    this.requests = [];
    this.refuseWith = 0;
    this.port = 0;
    for (let n = 0; n < (role === 'peer' ? 0 : role === 'machine' ? 1 : machines); n += 1) this.addMachine(n, entries);
    if (paths) this.addPaths();
  }

  addMachine(n, entries) {
    const own = this.role === 'machine';
    const id = own ? this.id : idOf(`machine ${n}`);
    const machine = {
      id, manager: own ? null : this.id, own, link: own ? 'unclaimed' : 'online', since_ms: null, current: true,
      current_at_ms: null, undelivered_since_ms: null, went_back_at_ms: null, agreed: true, overruled: 0, skew_ms: own ? null : n % 4 === 3 ? 7_200_000 : n - 2, duplicate: false, problem: null,
      reconciled: 0, keys_used: 0, bytes_used: 4096, bytes_limit: 67108864, spaces: [''],
    };
    const kv = new Kv();
    this.machines.set(id, { machine, kv });
    const goods = ['espresso', 'tea', 'water', 'chocolate'];
    for (let i = 0; i < entries; i += 1) {
      const good = goods[i % 4];
      const kind = ['price', 'stock', 'sold'][Math.floor(i / 4) % 3];
      const key = i < 12 ? `${kind}/${good}` : `sensor/${String(i).padStart(5, '0')}`;
      const value = kind === 'price' ? `${1 + (i % 4)}.${i % 2 ? 50 : 20}` : `${(i * 7 + n) % 41}`;
      kv.put(Buffer.from(key), Buffer.from(value), kind === 'price' ? 'manager' : 'machine', Date.now() - 60_000 + i);
    }
    machine.keys_used = kv.keys;
    return id;
  }

  addPaths() {
    const add = (map, kind, peer, path, lake, freshness) => {
      const made = new MockPath({ kind, peer, path, lake, freshness, owner: this.id });
      map.set(`${peer ?? ''} main ${path}`, made);
      return made;
    };
    for (const [path, lake] of [['/sales', 'log'], ['/till', 'sum'], ['/state', 'json']]) {
      const made = add(this.publications, 'publication', null, path, lake);
      if (lake === 'json') made.give([{ op: 'add', path: '', value: { stock: { espresso: 40, tea: 38 }, temperature: 41, door: 'shut', last: ['tea'] } }]);
      else for (let i = 1; i < 40; i += 1) made.give(lake === 'log' ? `${(i % 3) + 1} espresso for ${i}.20` : i * 5);
      add(this.subscriptions, 'subscription', idOf('machine 0'), path, lake, 'live').copy(made);
    }
    const gone = add(this.subscriptions, 'subscription', idOf('machine 9'), '/sales', 'log', 'offline');
    gone.copy(this.publications.get(' main /sales'));
    const waiting = add(this.subscriptions, 'subscription', idOf('far away'), '/news', 'log', 'not_available');
    waiting.aeon = null;
  }

  // What tests and the simulated fleet do.

  /** @param {number} n @returns {string} The id of the nth machine. */
  machineId(n) {
    return [...this.machines.keys()][n];
  }

  put(machine, key, value, author = 'machine', timestamp = Date.now()) {
    const entry = this.machines.get(machine).kv.put(Buffer.from(key), Buffer.from(value), author, timestamp);
    this.pump();
    return entry;
  }

  delete(machine, key, author = 'machine') {
    const had = this.machines.get(machine).kv.delete(Buffer.from(key), author, Date.now());
    this.pump();
    return had;
  }

  setMachine(machine, change) {
    Object.assign(this.machines.get(machine).machine, change);
    this.tell('machines', { type: 'machine', machine: this.machineView(machine), now_ms: Date.now() });
  }

  give(path, wave) {
    for (const map of [this.publications, this.subscriptions]) {
      for (const held of map.values()) if (held.path === path && held.freshness === 'live') held.give(wave);
    }
    this.pump();
  }

  /** A machine's side of a claim: somebody claims it. */
  incomingClaim() {
    const claim = this.newClaim({ machine: this.id });
    this.tell('claims', { type: 'claim', claim, now_ms: Date.now() });
    return claim;
  }

  newClaim(more) {
    const number = this.claims.size;
    const pin = String(randomBytes(4).readUInt32LE() % 1_000_000).padStart(6, '0');
    const claim = { claim: number, state: 'pending', pin, machine: null, manager: null, begun_ms: Date.now(), reason: null, ...more };
    this.claims.set(number, claim);
    return claim;
  }

  setClaim(number, change) {
    Object.assign(this.claims.get(number), change);
    this.tell('claims', { type: 'claim', claim: this.claims.get(number), now_ms: Date.now() });
  }

  release(machine) {
    this.machines.delete(machine);
    for (const stream of this.streams) stream.gone(machine);
    this.pump();
  }

  tell(topic, event) {
    for (const stream of this.streams) stream.list(topic, event);
  }

  pump() {
    for (const stream of this.streams) stream.pump();
  }

  machineView(id) {
    const { machine, kv } = this.machines.get(id);
    return { ...machine, keys_used: kv.keys };
  }

  node() {
    return {
      id: this.id, ticket: this.id, role: this.role, version: '0.1.0', run: this.run, started_ms: this.startedMs,
      now_ms: Date.now(), peers: [...this.machines.values()].filter(({ machine }) => machine.link === 'online').map(({ machine }) => machine.id),
      metrics: { waves_given: [...this.publications.values()].reduce((sum, path) => sum + (path.aeon ?? 0), 0), connections_now: 9, kv_entries: [...this.machines.values()].reduce((sum, { kv }) => sum + kv.keys, 0) },
      http: { connections: this.streams.size + 1, streams: this.streams.size, refused: 0 },
    };
  }

  // Life.

  /** @param {number} [port] @returns {Promise<string>} The address. */
  async listen(port = this.port) {
    this.server = createServer((request, response) => this.answer(request, response));
    await new Promise((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(port, '127.0.0.1', resolve);
    });
    this.port = this.server.address().port;
    this.startedMs = Date.now();
    this.run = randomBytes(8).toString('hex');
    this.timers = [setInterval(() => this.heartbeat(), this.options.heartbeat), setInterval(() => this.sample(), 1000)];
    if (this.options.rate > 0) this.simulate();
    return `http://127.0.0.1:${this.port}`;
  }

  /** As `kill -9` does: sockets break, nothing is said. */
  async kill() {
    this.timers.forEach((timer) => clearInterval(timer));
    for (const stream of this.streams) stream.response.destroy();
    this.streams.clear();
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** As a shutdown: every stream says why it ends. */
  async shutdown() {
    for (const stream of this.streams) stream.end('shut_down');
    await this.kill();
  }

  /** After `kill`: with the same state, but cursors into key-value views from before mean nothing. */
  async restart() {
    for (const { kv } of this.machines.values()) kv.restart();
    return this.listen();
  }

  heartbeat() {
    for (const stream of this.streams) stream.send(null, { type: 'heartbeat', now_ms: Date.now() });
  }

  sample() {
    this.tell('node', { type: 'node', node: this.node() });
    for (const path of this.publications.values()) this.tell('publications', { type: 'publication', publication: path.publication() });
    for (const path of this.subscriptions.values()) this.tell('subscriptions', { type: 'subscription', subscription: path.subscription(), now_ms: Date.now() });
  }

  simulate() {
    const period = 20;
    let owed = 0;
    let turn = 0;
    this.timers.push(setInterval(() => {
      owed += (this.options.rate * period) / 1000;
      for (; owed >= 1; owed -= 1) {
        turn += 1;
        const ids = [...this.machines.keys()].filter((id) => this.machines.get(id).machine.link === 'online');
        if (ids.length === 0) return;
        const machine = ids[turn % ids.length];
        const good = ['espresso', 'tea', 'water', 'chocolate'][Math.floor(Math.random() * 4)];
        const { kv, machine: status } = this.machines.get(machine);
        const now = Date.now() + (status.skew_ms ?? 0);
        if (turn % 10 === 0) {
          this.give('/sales', `1 ${good} for 2.20`);
          this.give('/till', 220);
          this.give('/state', [{ op: 'replace', path: '/temperature', value: 38 + (turn % 9) }]);
        } else {
          kv.put(Buffer.from(`${turn % 2 ? 'sold' : 'stock'}/${good}`), Buffer.from(String(turn % 41)), 'machine', now);
        }
      }
      this.pump();
    }, period));
  }

  // Requests.

  async answer(request, response) {
    const url = new URL(request.url, 'http://mock');
    this.requests.push(`${request.method} ${url.pathname}${url.search}`);
    try {
      if (this.refuseWith) throw new Problem(this.refuseWith, this.refuseWith === 401 ? 'unauthorized' : 'unavailable', 'the mock was told to refuse');
      if (!url.pathname.startsWith('/api/v1/')) return await this.file(url.pathname, response);
      const body = await readBody(request);
      const route = `${request.method} ${url.pathname.slice('/api/v1'.length)}`;
      const made = await this.route(route, new Query(url.search), body, request, response);
      if (made) json(response, made.status ?? 200, made.body ?? made);
    } catch (error) {
      const problem = error instanceof Problem ? error : new Problem(500, 'other', String(error?.stack));
      if (response.headersSent) return response.destroy();
      json(response, problem.status, problem.body, 'application/problem+json');
    }
  }

  async file(path, response) {
    const name = path === '/' ? 'index.html' : path.match(/^\/assets\/([\w-]+\.(?:js|css|svg))$/)?.[1];
    if (!name) throw new Problem(404, 'not-found', 'there is nothing here');
    const bytes = await readFile(new URL(name, DASHBOARD)).catch(() => { throw new Problem(404, 'not-found', name); });
    response.writeHead(200, { 'content-type': TYPES[name.split('.').at(-1)], 'content-security-policy': POLICY, 'cache-control': 'no-cache', 'x-content-type-options': 'nosniff' });
    response.end(bytes);
  }

  async route(route, query, body, request, response) {
    const [method, path] = route.split(' ');
    const from = request.headers['last-event-id'] ?? query.text('from');
    const parts = path.slice(1).split('/');
    if (route === 'GET /openapi.json') return JSON.parse(await readFile(OPENAPI, 'utf8'));
    if (route === 'GET /node') return this.node();
    if (route === 'GET /peers') return { peers: this.node().peers.map((id) => ({ id, connected: true })) };
    if (route === 'GET /stream') return void new Stream(this, response, query.all('topic').map(String), from, true);
    if (route === 'GET /machines') return { machines: [...this.machines.keys()].map((id) => this.machineView(id)) };
    if (parts[0] === 'machines') return this.machineRoute(method, parts, query, body, from, response);
    if (parts[0] === 'claims') return this.claimRoute(method, parts, body);
    if (route === 'GET /publications') return { publications: [...this.publications.values()].map((held) => held.publication()) };
    if (route === 'GET /subscriptions') return { subscriptions: [...this.subscriptions.values()].map((held) => held.subscription()) };
    if (route === 'GET /publication' || route === 'GET /subscription') return this.held(parts[0], query).state();
    if (path === '/publication/events' || path === '/subscription/events') {
      this.held(parts[0], query);
      return void new Stream(this, response, [`${parts[0]}${new URL(request.url, 'http://mock').search}`], from, false);
    }
    if (route === 'POST /publication/waves') {
      const held = this.held('publication', query);
      for (const wave of JSON.parse(body.toString()).waves) held.give(wave);
      this.pump();
      return { aeon: held.aeon };
    }
    throw new Problem(404, 'not-found', `the mock has no ${route}`);
  }

  held(kind, query) {
    const map = kind === 'publication' ? this.publications : this.subscriptions;
    const held = map.get(`${query.text('peer') ?? ''} ${query.text('agent') ?? 'main'} ${query.text('path')}`);
    if (!held) throw new Problem(404, 'not-published', 'nothing is published there');
    return held;
  }

  machineRoute(method, parts, query, body, from, response) {
    const id = parts[1] === 'self' ? this.id : parts[1];
    const held = this.machines.get(id);
    if (!held) throw new Problem(404, 'unknown-machine', 'this machine is not known here; see the list of machines');
    const route = `${method} ${parts.slice(2).join('/')}`;
    const author = this.role === 'machine' ? 'machine' : 'manager';
    if (route === 'GET ') return this.machineView(id);
    if (route === 'DELETE ') {
      this.release(id);
      return { released: true };
    }
    if (route === 'GET delivered') return { delivered: held.machine.undelivered_since_ms === null };
    if (route === 'GET spaces') return { spaces: held.machine.spaces };
    if (route === 'GET events') return void new Stream(this, response, [`kv?machine=${id}&${query.search}`], from, false);
    if (route === 'GET entries') return held.kv.list(query);
    const key = query.bytes('key');
    if (!key) throw new Problem(400, 'bad-request', 'which key? give `key`');
    if (route === 'GET entry') {
      const entry = held.kv.get(key);
      if (!entry) throw new Problem(404, 'no-entry', 'this key has no value');
      response.writeHead(200, { 'content-type': 'application/octet-stream', 'groundswell-author': entry.author, 'groundswell-timestamp': entry.timestamp });
      response.end(entry.value);
      return undefined;
    }
    if (route === 'PUT entry') {
      if (body.length > 1 << 20) throw new Problem(413, 'value-too-large', 'a value has at most 1 MiB');
      const entry = held.kv.put(key, body, author, Date.now());
      this.pump();
      return entry;
    }
    if (route === 'DELETE entry') {
      const deleted = held.kv.delete(key, author, Date.now());
      this.pump();
      return { deleted };
    }
    throw new Problem(405, 'method-not-allowed', route);
  }

  async claimRoute(method, parts, body) {
    if (method === 'GET' && parts.length === 1) return { claims: [...this.claims.values()] };
    if (method === 'POST' && parts.length === 1) {
      const { ticket } = JSON.parse(body.toString());
      if (!/^groundswell1/.test(ticket ?? '')) throw new Problem(400, 'bad-ticket', 'this is no ticket; copy the whole line that the machine shows');
      const claim = this.newClaim({ machine: idOf(ticket) });
      this.tell('claims', { type: 'claim', claim, now_ms: Date.now() });
      return { status: 201, body: claim };
    }
    const claim = this.claims.get(Number(parts[1]));
    if (!claim) throw new Problem(404, 'unknown-claim', 'there is no such claim in this run of the node');
    if (method === 'GET') return claim;
    const { same } = JSON.parse(body.toString());
    this.setClaim(claim.claim, { state: 'answered' });
    await new Promise((resolve) => setTimeout(resolve, 300));
    if (!same) {
      this.setClaim(claim.claim, { state: 'refused' });
    } else if (this.role === 'machine') {
      this.setClaim(claim.claim, { state: 'claimed', manager: idOf('the manager') });
      this.setMachine(this.id, { manager: idOf('the manager'), link: 'online' });
    } else {
      const id = this.addMachine(this.machines.size + 100, 12);
      this.setClaim(claim.claim, { state: 'claimed', machine: id });
      this.setMachine(id, {});
      for (const stream of this.streams) stream.arrived(id);
    }
    return claim;
  }
}

/** One event stream: cursors, and nothing queued. */
class Stream {
  constructor(mock, response, topics, from, many) {
    this.mock = mock;
    this.response = response;
    this.many = many;
    if (topics.length === 0 || topics.length > 32) throw new Problem(400, 'bad-topic', 'a stream has 1 to 32 topics');
    /** @type {{name: string, query: Query, text: string, places: Map<string, object>}[]} */
    this.topics = topics.map((text) => {
      const [name, search] = splitTopic(text);
      return { name, query: new Query(search), text, places: new Map() };
    });
    this.ids = decodeId(from, many);
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache', 'x-accel-buffering': 'no' });
    response.write('retry: 1000\n\n');
    mock.streams.add(this);
    response.on('close', () => mock.streams.delete(this));
    response.on('drain', () => this.pump());
    this.send(null, { type: 'hello', node: mock.id, run: mock.run, started_ms: mock.startedMs, heartbeat_ms: mock.options.heartbeat });
    this.topics.forEach((topic, number) => this.begin(topic, number));
    this.pump();
  }

  begin(topic, number) {
    const { mock } = this;
    const all = {
      node: () => [{ type: 'node', node: mock.node() }],
      machines: () => [...mock.machines.keys()].map((id) => ({ type: 'machine', machine: mock.machineView(id), now_ms: Date.now() })),
      claims: () => [...mock.claims.values()].map((claim) => ({ type: 'claim', claim, now_ms: Date.now() })),
      publications: () => [...mock.publications.values()].map((held) => ({ type: 'publication', publication: held.publication() })),
      subscriptions: () => [...mock.subscriptions.values()].map((held) => ({ type: 'subscription', subscription: held.subscription(), now_ms: Date.now() })),
    }[topic.name];
    if (all) {
      for (const event of all()) this.send(number, event);
      this.send(number, { type: 'caught_up' });
    } else if (topic.name === 'kv') {
      const machine = topic.query.text('machine');
      const ids = machine === '*' ? [...mock.machines.keys()] : mock.machines.has(machine) ? [machine] : [];
      for (const id of ids) this.follow(topic, id);
      if (ids.length === 0 && machine !== '*') this.send(number, { type: 'ended', reason: 'released' });
      topic.whole = machine === '*' ? new Set(ids) : null;
      topic.all = ids;
      if (topic.whole?.size === 0) this.send(number, { type: 'caught_up', machines: ids });
    } else {
      const held = mock.held(topic.name, topic.query);
      const given = this.ids[topic.text];
      topic.places.set('', { held, reader: held.reader(given, topic.query) });
    }
  }

  follow(topic, machine) {
    const { kv } = this.mock.machines.get(machine);
    const key = this.many ? `${topic.text} ${machine}` : 'kv';
    topic.places.set(machine, { kv, reader: kv.reader(this.ids[key], topic.query), key });
  }

  arrived(machine) {
    for (const topic of this.topics) if (topic.name === 'kv' && topic.query.text('machine') === '*') this.follow(topic, machine);
    this.pump();
  }

  gone(machine) {
    this.topics.forEach((topic, number) => {
      if (topic.name === 'machines') this.send(number, { type: 'gone', machine });
      if (topic.name !== 'kv' || !topic.places.delete(machine)) return;
      const all = topic.query.text('machine') === '*';
      this.send(number, all ? { type: 'gone', machine } : { type: 'ended', reason: 'released' });
      if (!all && !this.many) this.response.end();
    });
  }

  list(name, event) {
    this.topics.forEach((topic, number) => topic.name === name && this.send(number, event));
  }

  /** Everything that is new since the cursors, while the reader takes it. */
  pump() {
    this.topics.forEach((topic, number) => {
      for (const [machine, place] of topic.places) {
        while (!this.response.writableNeedDrain) {
          const event = place.reader.next();
          if (!event) break;
          if (place.kv) Object.assign(event, { machine });
          if (event.cursor) this.ids[place.key ?? topic.text] = event.cursor;
          this.send(number, event);
          if (event.type === 'caught_up' && topic.whole?.delete(machine) && topic.whole.size === 0) this.send(number, { type: 'caught_up', machines: topic.all });
        }
      }
    });
  }

  send(topic, event) {
    if (this.many && topic !== null) event.topic = topic;
    const id = event.cursor ? `id: ${this.many ? Buffer.from(JSON.stringify(this.ids)).toString('base64url') : event.cursor}\n` : '';
    this.response.write(`event: ${event.type}\n${id}data: ${JSON.stringify(event)}\n\n`);
  }

  end(reason) {
    this.send(null, { type: 'ended', reason });
    this.response.end();
  }
}

function decodeId(from, many) {
  if (!from) return {};
  if (!many) return { kv: from };
  try {
    return JSON.parse(Buffer.from(from, 'base64url').toString());
  } catch {
    return {};
  }
}

/** A query whose values may be any bytes. */
class Query {
  constructor(search) {
    this.search = search.replace(/^\?/, '');
    this.pairs = this.search.split('&').filter(Boolean).map((pair) => {
      const at = pair.indexOf('=');
      return [pair.slice(0, at), unescapeBytes(pair.slice(at + 1))];
    });
  }

  all(name) {
    return this.pairs.filter(([key]) => key === name).map(([, value]) => value);
  }

  bytes(name) {
    return this.all(name)[0];
  }

  text(name) {
    return this.bytes(name)?.toString();
  }
}

function unescapeBytes(text) {
  return Buffer.from(text.replaceAll('+', ' ').replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16))), 'latin1');
}

async function readBody(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function json(response, status, body, type = 'application/json') {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
  response.end(JSON.stringify(body));
}

if (process.argv[1] && import.meta.url === new URL(`file://${process.argv[1]}`).href) {
  const number = (text) => Number(text);
  const { values } = parseArgs({ options: { port: { type: 'string', default: '4700' }, machines: { type: 'string', default: '10' }, entries: { type: 'string', default: '12' }, rate: { type: 'string', default: '200' }, role: { type: 'string', default: 'manager' } } });
  const mock = new Mock({ machines: number(values.machines), entries: number(values.entries), rate: number(values.rate), role: values.role });
  console.log(await mock.listen(number(values.port)));
}
