// The requests of the page. An answer that is not good is a `Refused`, with the words of its problem document.

import { percent } from './bytes.js';
import { EXACT, parse } from './json.js';
import { pathQuery } from './topics.js';

/** Relative to this file, so that the page may be mounted anywhere. */
const BASE = new URL('../api/v1/', import.meta.url);
export const STREAM = new URL('stream', BASE).href;

/** @typedef {{machine: string, space: string, key: string}} Place Where an entry is; the key is a byte string. */

/** The node said no, or nothing. */
export class Refused extends Error {
  /** @param {number} status 0: no answer. @param {string} detail */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** @param {string} method @param {string} path @param {{json?: unknown, bytes?: Uint8Array}} [body] @returns {Promise<Response>} */
async function ask(method, path, body = {}) {
  /** @type {RequestInit} */
  const request = { method, credentials: 'same-origin' };
  if (body.json !== undefined) {
    request.headers = { 'content-type': 'application/json' };
    request.body = JSON.stringify(body.json);
  } else if (body.bytes) {
    request.headers = { 'content-type': 'application/octet-stream' };
    request.body = /** @type {BufferSource} */ (body.bytes);
  }
  let response;
  try {
    response = await fetch(new URL(path, BASE), request);
  } catch {
    throw new Refused(0, 'the node does not answer');
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => null);
  throw new Refused(response.status, problem?.detail ?? `the node answered ${response.status}`);
}

/** @param {Place} place */
const entryPath = ({ machine, space, key }) =>
  `machines/${machine}/entry?key=${percent(key)}${space ? `&space=${encodeURIComponent(space)}` : ''}`;

export const readNode = async () => (await ask('GET', 'node')).json();

/** @param {Place} place */
export async function readEntry(place) {
  const response = await ask('GET', entryPath(place));
  return {
    value: new Uint8Array(await response.arrayBuffer()),
    author: response.headers.get('groundswell-author'),
    timestamp: Number(response.headers.get('groundswell-timestamp')),
  };
}

/** @param {Place} place @param {Uint8Array} value */
export const writeEntry = async (place, value) => (await ask('PUT', entryPath(place), { bytes: value })).json();

/** @param {Place} place */
export const deleteEntry = async (place) => (await ask('DELETE', entryPath(place))).json();

/** @param {string} ticket */
export const beginClaim = async (ticket) => (await ask('POST', 'claims', { json: { ticket } })).json();

/** Opens this machine for claims, for as long as the node thinks right. */
export const openPairing = async () => (await ask('POST', 'pairing', { json: {} })).json();

/** Closes it again. */
export const closePairing = async () => (await ask('DELETE', 'pairing')).json();

/** @param {number} claim @param {boolean} same */
export const answerClaim = async (claim, same) => (await ask('POST', `claims/${claim}/answer`, { json: { same } })).json();

/** @param {string} machine */
export const release = async (machine) => (await ask('DELETE', `machines/${machine}`)).json();

/** @param {import('./rock.js').PathState['subject']} subject */
export const readPath = async (subject) => parse(await (await ask('GET', `${subject.kind}?${pathQuery(subject)}`)).text(), EXACT);

/** Why there is no stream. @returns {Promise<{status: number, detail: string}|null>} */
export async function probe() {
  try {
    await ask('GET', 'node');
    return { status: 200, detail: '' };
  } catch (error) {
    return error instanceof Refused && error.status !== 0 ? { status: error.status, detail: error.message } : null;
  }
}
