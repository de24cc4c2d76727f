// One entry: the whole value, to read, to write, to delete. A change that comes meanwhile is told, and overwrites nothing.

import { deleteEntry, readEntry, Refused, writeEntry } from './api.js';
import { byteString, bytesOf, hex, parseHex, sizeWords, textOf, utf8 } from './bytes.js';
import { confirmed } from './confirm.js';
import { byId, say, setHidden, setOptions, setText } from './dom.js';
import { clock, shortId } from './words.js';

/** @typedef {import('./entries.js').Row} Row */

/** Asks, and deletes. @param {Row} row @param {string} space @returns {Promise<boolean>} */
export async function removeEntry(row, space) {
  const done = await confirmed({
    title: 'Delete this entry?',
    text: `Key ${row.keyHex ? 'hex ' : ''}“${row.keyText}” of machine ${shortId(row.machine)}, now “${row.value.slice(0, 80)}${row.value.length > 80 ? '…' : ''}”. Both sides will lose it.`,
    action: 'Delete',
    run: () => deleteEntry({ machine: row.machine, space, key: row.key }),
  });
  if (done) say(`${row.keyText} is deleted.`);
  return done;
}

export class EntryDialog {
  /** @param {import('./model.js').Model} model @param {{closed: (id: string|null) => void}} does */
  constructor(model, does) {
    this.model = model;
    this.does = does;
    /** @type {HTMLDialogElement} */
    this.dialog = byId('entry');
    /** @type {HTMLTextAreaElement} */
    this.value = byId('entry-value');
    /** @type {HTMLInputElement} */
    this.hex = byId('entry-hex');
    /** @type {HTMLInputElement} */
    this.key = byId('entry-key');
    /** @type {HTMLSelectElement} */
    this.machine = byId('entry-machine');
    /** @type {HTMLButtonElement} */
    this.write = byId('entry-write');
    /** @type {Row|null} */
    this.row = null;
    this.version = 0;
    /** Those of an entry whose text box would have changed them: line ends. @type {Uint8Array|null} */
    this.read = null;
    this.dialog.addEventListener('close', () => this.does.closed(this.row?.id ?? null));
    this.dialog.querySelector('form')?.addEventListener('submit', (event) => {
      event.preventDefault();
      this.save();
    });
    byId('entry-cancel').addEventListener('click', () => this.dialog.close());
    byId('entry-delete').addEventListener('click', () => this.remove());
    this.hex.addEventListener('change', () => this.turn());
  }

  get space() {
    return this.model.looksAt?.space ?? '';
  }

  /** @param {Row|null} row Null: a new one. */
  async open(row) {
    if (this.dialog.open) return;
    this.row = row;
    this.version = row?.version ?? 0;
    this.read = null;
    setText(byId('entry-title'), row ? `Entry “${row.keyText || 'the empty key'}”` : 'New entry');
    setText(byId('entry-error'), '');
    setText(byId('entry-changed'), '');
    setHidden(byId('entry-delete'), !row);
    setHidden(byId('entry-key-label'), row !== null);
    setHidden(byId('entry-machine-label'), row !== null || this.model.looksAt?.machine !== '*');
    const machines = this.model.machines.values();
    setOptions(this.machine, machines.map((machine) => ({ value: machine.id, text: shortId(machine.id) })), machines[0]?.id ?? '');
    this.key.value = '';
    this.value.value = '';
    this.hex.checked = false;
    this.hex.disabled = false;
    this.describe();
    this.dialog.showModal();
    if (!row) return this.key.focus();
    this.value.disabled = this.write.disabled = true;
    try {
      const { value } = await readEntry({ machine: row.machine, space: this.space, key: row.key });
      this.read = value;
      const text = textOf(value);
      // A text box makes every line end a line feed: such bytes are only safe as hex.
      const exact = text !== null && !text.includes('\r');
      this.hex.checked = this.hex.disabled = !exact;
      this.value.value = exact ? text : hex(byteString(value));
      this.describe();
      this.value.disabled = this.write.disabled = false;
      this.value.focus();
    } catch (error) {
      setText(byId('entry-error'), `Not read: ${/** @type {Error} */ (error).message}.`);
    }
  }

  describe() {
    const { row, read } = this;
    const size = read ? `, ${sizeWords(read.length)}` : '';
    setText(byId('entry-meta'), row ? `Machine ${shortId(row.machine)}; written by the ${row.author} at ${clock(row.timestamp)}${size}` : 'The value is written as UTF-8 text, or as hex.');
  }

  /** What changed while it is open. */
  render() {
    const { row } = this;
    if (!this.dialog.open || !row || row.version === this.version) return;
    const gone = row.deletedAt > 0 || row.round === -1;
    const said = gone ? `The ${row.author} deleted it meanwhile. Writing makes it again.` : `The ${row.author} wrote it meanwhile, at ${clock(row.timestamp)}: it is now “${row.value.slice(0, 80)}”. Writing replaces that.`;
    setText(byId('entry-changed'), said);
  }

  /** From text to hex and back. */
  turn() {
    if (this.hex.checked) {
      this.value.value = hex(utf8(this.value.value));
      return;
    }
    const bytes = parseHex(this.value.value);
    const text = bytes && textOf(bytes);
    if (text !== null && !text.includes('\r')) {
      this.value.value = text;
      return;
    }
    this.hex.checked = true;
    setText(byId('entry-error'), 'These bytes are no text; they stay hex.');
  }

  async save() {
    const bytes = this.hex.checked ? parseHex(this.value.value) : bytesOf(utf8(this.value.value));
    if (!bytes) return setText(byId('entry-error'), 'Hex is pairs of the digits 0 to 9 and a to f.');
    const { looksAt } = this.model;
    const machine = this.row?.machine ?? (looksAt?.machine === '*' ? this.machine.value : looksAt?.machine ?? '');
    const key = this.row?.key ?? utf8(this.key.value);
    this.write.disabled = true;
    try {
      await writeEntry({ machine, space: this.space, key }, bytes);
      say('The entry is written.');
      this.dialog.close();
    } catch (error) {
      const why = error instanceof Refused ? error.message : String(error);
      setText(byId('entry-error'), `Not written: ${why}.`);
    }
    this.write.disabled = false;
  }

  async remove() {
    if (this.row && (await removeEntry(this.row, this.space))) this.dialog.close();
  }
}
