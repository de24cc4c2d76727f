// Following: the present, then caught up, then every change; through lost connections, restarts and slow readers.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { GroundswellError } from '../dist/index.js';
import { isCaughtUp, onMock, take, until, words } from './helper.mjs';

test('a watch gives the present entry, caught up, then every change', onMock({}, async ({ mock, node, machine }) => {
  mock.put(machine, 'price/tea', '1');
  mock.put(machine, 'other', 'x');
  const watch = node.watchKvKey(machine, 'price/tea');
  const first = await take(watch, isCaughtUp);
  assert.deepEqual(first.map(words), ['put price/tea 1', 'caught_up']);
  assert.equal(first[0].live, false);
  mock.put(machine, 'other', 'y');
  mock.put(machine, 'price/tea', '2', 'manager', 77);
  mock.delete(machine, 'price/tea', 'manager');
  const [put, deleted] = await take(watch, (event) => event.type === 'delete');
  assert.deepEqual([put.entry.value.text, put.entry.author, put.entry.timestamp, put.live], ['2', 'manager', 77, true]);
  assert.deepEqual([deleted.key.text, deleted.author, deleted.machine], ['price/tea', 'manager', machine]);
  await watch.return();
}));

test('a watch of nothing has caught up too', onMock({}, async ({ node, machine }) => {
  const watch = node.watchKvKey(machine, 'nothing');
  assert.deepEqual((await take(watch, isCaughtUp)).map(words), ['caught_up']);
  await watch.return();
}));

test('a lost connection is made again from the last event: nothing twice, nothing lost', onMock({}, async ({ mock, node, machine }) => {
  const statuses = [];
  mock.put(machine, 'a', '1');
  mock.put(machine, 'b', '1');
  const stream = node.subscribeKvEntries(machine, {}, { onStatus: (status) => statuses.push(status.connected) });
  await take(stream, isCaughtUp);
  const next = take(stream, isCaughtUp);
  await mock.kill();
  mock.put(machine, 'a', '2');
  mock.delete(machine, 'b');
  await mock.listen();
  assert.deepEqual((await next).map(words), ['put a 2', 'delete b', 'caught_up']);
  assert.ok(statuses.includes(false));
  assert.equal(statuses.at(-1), true);
  await stream.return();
}));

test('after a restart that has forgotten the cursor: reset, then the present', onMock({}, async ({ mock, node, machine }) => {
  mock.put(machine, 'a', '1');
  const stream = node.subscribeKvEntries(machine);
  await take(stream, isCaughtUp);
  const next = take(stream, isCaughtUp);
  await mock.kill();
  await mock.restart();
  assert.deepEqual((await next).map(words), ['reset other_epoch', 'put a 1', 'caught_up']);
  await stream.return();
}));

test('a cursor of an earlier program is gone on from', onMock({}, async ({ mock, node, machine }) => {
  mock.put(machine, 'a', '1');
  const before = node.subscribeKvEntries(machine);
  const { cursor } = (await take(before, isCaughtUp)).at(-1);
  await before.return();
  mock.put(machine, 'b', '1');
  const after = node.subscribeKvEntries(machine, {}, { from: cursor });
  assert.deepEqual((await take(after, isCaughtUp)).map(words), ['put b 1', 'caught_up']);
  await after.return();
}));

test('`ended` is the last event, with its reason', onMock({}, async ({ mock, node, machine }) => {
  const events = [];
  for await (const event of node.subscribeKvEntries(machine)) {
    events.push(words(event));
    if (isCaughtUp(event)) await mock.shutdown();
  }
  assert.deepEqual(events, ['caught_up', 'ended shut_down']);
}));

test('a released machine ends the stream, and there is no other try', onMock({}, async ({ mock, node, machine }) => {
  const events = [];
  for await (const event of node.subscribeKvEntries(machine)) {
    events.push(words(event));
    if (isCaughtUp(event)) mock.release(machine);
  }
  assert.deepEqual(events, ['caught_up', 'ended released']);
  assert.equal(mock.requests.length, 1);
}));

test('across a shutdown, if that is wanted', onMock({}, async ({ mock, node, machine }) => {
  const stream = node.subscribeKvEntries(machine, {}, { acrossShutdown: true });
  await take(stream, isCaughtUp);
  const next = take(stream, (event) => event.type === 'put');
  await mock.shutdown();
  mock.put(machine, 'a', '1');
  await mock.listen();
  assert.deepEqual((await next).map(words), ['put a 1']);
  await stream.return();
}));

test('an abort ends the iteration quietly and gives the connection back, whatever it was doing', onMock({}, async ({ mock, node, machine }) => {
  const waiting = new AbortController();
  const events = [];
  for await (const event of node.subscribeKvEntries(machine, {}, { signal: waiting.signal })) {
    events.push(event.type);
    setTimeout(() => waiting.abort(), 1);
  }
  assert.deepEqual(events, ['caught_up']);
  await until(() => mock.streams.size === 0, 'the connection to be closed');
  await mock.kill();
  const trying = new AbortController();
  for await (const event of node.subscribeKvEntries(machine, {}, { signal: trying.signal, onStatus: () => trying.abort() })) assert.fail(words(event));
  for await (const event of node.subscribeKvEntries(machine, {}, { signal: AbortSignal.abort() })) assert.fail(words(event));
}));

test('who leaves the loop gives the connection back', onMock({}, async ({ mock, node, machine }) => {
  for await (const event of node.subscribeKvEntries(machine)) if (isCaughtUp(event)) break;
  await until(() => mock.streams.size === 0, 'the connection to be closed');
}));

test('a slow reader skips what newer values replaced, gets the newest, and holds up nobody', onMock({}, async ({ mock, node, machine }) => {
  const WRITES = 2000;
  const slow = node.watchKvKey(machine, 'a');
  const quick = node.watchKvKey(machine, 'b');
  await take(slow, isCaughtUp);
  await take(quick, isCaughtUp);
  const padding = 'x'.repeat(20_000);
  for (let n = 1; n <= WRITES; n += 1) {
    mock.put(machine, 'a', `${n} ${padding}`);
    if (n % 100 === 0) await new Promise(setImmediate);
  }
  mock.put(machine, 'b', 'after all that');
  await take(quick, (event) => event.type === 'put');
  const numbers = (await take(slow, (event) => event.entry.value.text.startsWith(`${WRITES} `))).map((event) => Number.parseInt(event.entry.value.text, 10));
  assert.ok(numbers.length < WRITES, `${numbers.length} of ${WRITES}`);
  assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b), 'never back in time');
  await Promise.all([slow.return(), quick.return()]);
}));

test('a refusal that time will not change is thrown; one that it may is tried again', onMock({}, async ({ mock, node, machine }) => {
  mock.refuseWith = 401;
  await assert.rejects(take(node.watchKvKey(machine, 'a'), isCaughtUp), (error) => error instanceof GroundswellError && error.status === 401);
  mock.refuseWith = 503;
  const watch = node.watchKvKey(machine, 'a', { onStatus: () => { mock.refuseWith = 0; } });
  assert.deepEqual((await take(watch, isCaughtUp)).map(words), ['caught_up']);
  await watch.return();
}));

test('a connection that has fallen silent is given up after three heartbeats', onMock({ heartbeat: 50 }, async ({ mock, node, machine }) => {
  const reasons = [];
  const watch = node.watchKvKey(machine, 'a', { onStatus: ({ reason }) => reason && reasons.push(reason) });
  await take(watch, isCaughtUp);
  mock.timers.forEach((timer) => clearInterval(timer));
  await take(watch, isCaughtUp);
  assert.match(reasons[0], /said nothing for 150 ms/);
  assert.equal(mock.requests.length, 2);
  await watch.return();
}));

test('waits double with jitter, up to ten seconds', onMock({}, async ({ mock, node, machine }) => {
  await mock.kill();
  const abort = new AbortController();
  const waits = [];
  const onStatus = ({ retryInMs }) => {
    waits.push(retryInMs);
    if (waits.length === 4) abort.abort();
  };
  for await (const event of node.watchKvKey(machine, 'a', { signal: abort.signal, onStatus })) assert.fail(words(event));
  waits.forEach((wait, at) => assert.ok(wait >= 50 * 2 ** at && wait <= 100 * 2 ** at, `${waits}`));
}));

test('all machines in one stream, those that come and go included', onMock({ machines: 2 }, async ({ mock, node }) => {
  const [one, two] = [mock.machineId(0), mock.machineId(1)];
  mock.put(one, 'a', '1');
  mock.put(two, 'a', '2');
  const stream = node.subscribeAllKvEntries({ prefixes: ['a'] });
  const first = await take(stream, (event) => isCaughtUp(event) && event.machines !== null);
  assert.deepEqual(first.filter((event) => event.type === 'put').map((event) => [event.machine, event.entry.value.text]).sort(), [[one, '1'], [two, '2']].sort());
  assert.deepEqual(first.at(-1).machines, [one, two]);
  mock.release(two);
  assert.deepEqual((await take(stream, (event) => event.type === 'gone')).at(-1).machine, two);
  await stream.return();
}));
