// The mock speaks the contract: what it sends fits the schemas of openapi.json, and its streams resume. A dashboard that
// works with it has been shown what the document promises.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

import { breaches, DOCUMENT, eventBreaches } from './contract.mjs';
import { idOf, Mock } from './mock.mjs';

/** Reads events until one is as `until` says. */
async function read(url, until, headers = {}) {
  // A connection that the pool kept from before a restart is broken: that is no fault of the mock.
  const response = await fetch(url, { headers }).catch(() => fetch(url, { headers }));
  assert.equal(response.status, 200, await (response.ok ? '' : response.text()));
  const events = [];
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body) {
    rest += decoder.decode(chunk, { stream: true });
    const blocks = rest.split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const field = (name) => block.split('\n').find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      if (!field('data')) continue;
      events.push({ ...JSON.parse(field('data')), id: field('id') });
      if (until(events.at(-1))) return events;
    }
  }
  throw new Error('the stream ended');
}
const withMock = (options, body) => async () => {
  const mock = new Mock(options);
  const base = await mock.listen();
  try {
    await body(mock, `${base}/api/v1`);
  } finally {
    await mock.kill();
  }
};
const topics = (...all) => all.map((topic) => `topic=${encodeURIComponent(topic)}`).join('&');
const without = ({ id, ...event }) => event;

test('every event fits the contract', withMock({ machines: 2, heartbeat: 50 }, async (mock, api) => {
  const machine = mock.machineId(0);
  const all = ['node', 'machines', 'claims', 'publications', 'subscriptions', 'kv?machine=*', 'publication?path=/state&last=3', `subscription?peer=${idOf('far away')}&path=/news`];
  const done = new Set();
  const events = await read(`${api}/stream?${topics(...all)}`, (event) => {
    if (event.type === 'caught_up' && event.topic === 5 && !event.machine) {
      mock.put(machine, Buffer.from([255, 0]), Buffer.from([254]));
      mock.delete(machine, 'price/tea', 'manager');
      mock.incomingClaim();
      mock.setMachine(machine, { link: 'offline', since_ms: 1, current: false, current_at_ms: 1 });
      mock.give('/state', [{ op: 'replace', path: '/temperature', value: 1 }]);
      mock.release(mock.machineId(1));
    }
    done.add(event.type);
    return ['heartbeat', 'gone', 'delete', 'claim', 'update', 'freshness', 'not_available'].every((type) => done.has(type)) && event.type === 'heartbeat';
  });
  assert.deepEqual(events.flatMap((event) => eventBreaches(without(event))), []);
}));

test('every answer fits the contract', withMock({ machines: 1 }, async (mock, api) => {
  const machine = mock.machineId(0);
  const schema = (path, method = 'get', status = 200) => DOCUMENT.paths[`/api/v1${path}`][method].responses[status].content['application/json'].schema;
  const cases = [
    ['/node', '/node'], ['/peers', '/peers'], ['/machines', '/machines'], ['/claims', '/claims'], ['/publications', '/publications'], ['/subscriptions', '/subscriptions'],
    ['/machines/{machine}', `/machines/${machine}`], ['/machines/{machine}/entries', `/machines/${machine}/entries?prefix=price`],
    ['/publication', '/publication?path=/till'], ['/subscription', `/subscription?path=/news&peer=${idOf('far away')}`],
  ];
  for (const [path, url] of cases) assert.deepEqual(breaches(schema(path), await (await fetch(api + url)).json()), [], path);
  const put = await fetch(`${api}/machines/${machine}/entry?key=%FF+`, { method: 'PUT', body: 'v' });
  assert.deepEqual(breaches(schema('/machines/{machine}/entry', 'put'), await put.json()), []);
  const missing = await fetch(`${api}/machines/${machine}/entry?key=no`);
  assert.deepEqual([missing.status, breaches(DOCUMENT.components.schemas.Problem, await missing.json())], [404, []]);
}));

test('a stream goes on from its id, and after a restart begins with a reset', withMock({ machines: 2, paths: false }, async (mock, api) => {
  const machine = mock.machineId(0);
  const url = `${api}/stream?${topics('kv?machine=*')}`;
  const first = await read(url, (event) => event.type === 'caught_up' && !event.machine);
  const id = first.findLast((event) => event.id).id;
  mock.put(machine, 'new', '1');
  const second = await read(url, (event) => event.type === 'caught_up' && !event.machine, { 'last-event-id': id });
  assert.deepEqual(second.filter((event) => event.type !== 'caught_up' && event.type !== 'hello').map((event) => event.key), ['new']);
  await mock.kill();
  await mock.restart();
  const third = await read(url, (event) => event.type === 'caught_up' && !event.machine, { 'last-event-id': id });
  assert.equal(third.filter((event) => event.type === 'reset').length, 2);
  assert.equal(third.filter((event) => event.type === 'put').length, 25);
}));

test('the dashboard is files that are there, with no word to another host, no inline script and no inline style', () => {
  const folder = new URL('../', import.meta.url);
  const names = readdirSync(folder).filter((name) => name !== 'tests' && name !== 'index.html');
  const page = readFileSync(new URL('../index.html', import.meta.url), 'utf8');
  for (const [, name] of page.matchAll(/(?:src|href)="([^"#]+)"/g)) assert.ok(names.includes(name.replace('assets/', '')), name);
  assert.doesNotMatch(page, /<script(?![^>]*src=)|<style|\sstyle=|\son\w+=/);
  for (const name of names) {
    assert.match(name, /^[a-z-]+\.(js|css|svg)$/);
    const text = readFileSync(new URL(name, folder), 'utf8');
    for (const [, imported] of text.matchAll(/(?:from|import) '\.\/([^']+)'/g)) assert.ok(names.includes(imported), `${name} imports ${imported}`);
    assert.doesNotMatch(text.replaceAll('http://www.w3.org/2000/svg', ''), /https?:\/\//, `${name} names an address`);
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|setAttribute\('style'|\beval\(|new Function/, `${name} makes markup of text`);
  }
});
