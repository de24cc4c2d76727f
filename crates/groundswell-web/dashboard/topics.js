// What the page follows, and how that is said in the query of the one stream.

/**
 * @typedef {{kind: 'node'|'machines'|'claims'|'publications'|'subscriptions'}
 *   | {kind: 'kv', machine: string, space: string}
 *   | {kind: 'publication'|'subscription', peer?: string, agent: string, path: string, lake: string|null}} Topic
 */

/** With how many waves of the past a path begins. */
const LAST = 20;

/** @param {Topic} topic @returns {string} */
export function topicText(topic) {
  if (topic.kind === 'kv') {
    const space = topic.space ? `&space=${encodeURIComponent(topic.space)}` : '';
    return `kv?machine=${topic.machine}${space}`;
  }
  if ('path' in topic) return `${topic.kind}?${pathQuery(topic)}&last=${LAST}`;
  return topic.kind;
}

/** @param {{peer?: string, agent: string, path: string}} subject @returns {string} */
export function pathQuery({ peer, agent, path }) {
  const of = peer ? `peer=${peer}&` : '';
  return `${of}agent=${encodeURIComponent(agent)}&path=${encodeURIComponent(path)}`;
}

/** @param {Topic[]} topics @param {string|null} from @returns {string} */
export function streamQuery(topics, from) {
  const parts = topics.map((topic) => `topic=${encodeURIComponent(topicText(topic))}`);
  if (from) parts.push(`from=${encodeURIComponent(from)}`);
  return parts.join('&');
}

/** Whether an event says that its topic is all here. @param {Topic} topic @param {any} event @returns {boolean} */
export function completes(topic, event) {
  if (event.type === 'ended') return true;
  if ('path' in topic) return ['caught_up', 'not_available', 'killed'].includes(event.type);
  return event.type === 'caught_up' && (event.machine === undefined || (topic.kind === 'kv' && topic.machine !== '*'));
}
