// A window of a job's output: at most so many bytes of it, cut into lines, and into rows of the screen. No DOM here.
import { PLAIN, runsOf } from "./ansi.js";

export const MOST_BYTES = 2 * 1024 * 1024; // of the window; what is beyond is fetched when it is looked at
const MOST_ROWS = 150000; // rows of 18 px: browsers draw no element that is much higher than that
const MOST_LINE = 4096; // characters of a row that is not wrapped
const MOST_PIECE = 65536; // bytes: a line without an end is cut, so that it need not be read again and again
const TAB = 8;
const NEWLINE = 10;
const decoder = new TextDecoder();

export class Lines {
  start = 0; // the offset of the first byte
  end = 0; // of the byte after the last
  rows = [];
  #lines = []; // { text, size }: the last one may have no newline yet
  #columns = MOST_LINE;
  #style = PLAIN; // after the last whole line
  #partial = null; // bytes after the last newline
  #wholeRows = 0;

  clear(offset) {
    this.start = this.end = offset;
    this.rows = [];
    this.#lines = [];
    this.#style = PLAIN;
    this.#partial = null;
    this.#wholeRows = 0;
  }

  get partial() {
    return Boolean(this.#partial && this.#partial.length);
  }

  get size() {
    return this.end - this.start;
  }

  // Bytes that come after those that are there.
  append(data) {
    this.end += data.length;
    this.rows.length = this.#wholeRows;
    const cut = cutLines(this.#partial ? joined(this.#partial, data) : data);
    for (const line of cut.lines) this.#add(line);
    this.#wholeRows = this.rows.length;
    this.#partial = cut.rest;
    this.#addPartial();
  }

  // Bytes that come before those that are there; what is before their first newline is left out, unless it is the first
  // byte of all.
  prepend(data, offset) {
    let from = 0;
    if (offset > 0) {
      const newline = data.indexOf(NEWLINE);
      from = newline < 0 || newline === data.length - 1 ? 0 : newline + 1;
    }
    const cut = cutLines(data.subarray(from));
    const before = cut.lines;
    if (cut.rest.length) before.push({ text: decoder.decode(cut.rest), size: cut.rest.length });
    this.#lines = [...before, ...this.#lines];
    this.start = offset + from;
    return this.layout(this.#columns);
  }

  // Leave out lines at the beginning, or the end, until the window is small enough; how many rows went at the beginning.
  shrink(atEnd) {
    if (this.size <= MOST_BYTES && this.rows.length <= MOST_ROWS) return 0;
    const before = this.rows.length;
    const [most, mostRows] = [MOST_BYTES * 0.75, MOST_ROWS * 0.75];
    if (atEnd) {
      if (this.#partial) this.end -= this.#partial.length;
      this.#partial = null;
      let rows = this.rows.length;
      while (this.#lines.length > 1 && (this.size > most || rows > mostRows)) {
        const line = this.#lines.pop();
        this.end -= line.size;
        rows -= line.rows;
      }
      this.layout(this.#columns);
      return 0;
    }
    let [dropped, rows] = [0, this.rows.length];
    while (dropped < this.#lines.length - 1 && (this.size > most || rows > mostRows)) {
      const line = this.#lines[dropped++];
      this.start += line.size;
      rows -= line.rows;
    }
    this.#lines.splice(0, dropped);
    this.layout(this.#columns);
    return before - this.rows.length;
  }

  // All rows anew, of so many columns; how many there are more than before.
  layout(columns) {
    const before = this.rows.length;
    this.#columns = columns;
    this.rows = [];
    this.#style = PLAIN;
    const lines = this.#lines;
    this.#lines = [];
    for (const line of lines) this.#add(line);
    this.#wholeRows = this.rows.length;
    this.#addPartial();
    return this.rows.length - before;
  }

  text(from, to) {
    return this.rows.slice(from, to).map((runs) => runs.map(([text]) => text).join("")).join("\n");
  }

  #add(line) {
    const [rows, style] = rowsOf(line.text, this.#style, this.#columns);
    this.#style = style;
    line.rows = rows.length;
    this.#lines.push(line);
    for (const row of rows) this.rows.push(row);
  }

  #addPartial() {
    if (!this.partial) return;
    for (const row of rowsOf(decoder.decode(this.#partial, { stream: false }), this.#style, this.#columns)[0]) this.rows.push(row);
  }
}

function cutLines(data) {
  const lines = [];
  let from = 0;
  for (let at = data.indexOf(NEWLINE); at >= 0; at = data.indexOf(NEWLINE, from)) {
    lines.push({ text: decoder.decode(data.subarray(from, at)), size: at + 1 - from });
    from = at + 1;
  }
  let rest = data.subarray(from);
  while (rest.length > MOST_PIECE) {
    let size = MOST_PIECE;
    while (size > MOST_PIECE - 4 && (rest[size] & 0xc0) === 0x80) size -= 1; // no half of a character
    lines.push({ text: decoder.decode(rest.subarray(0, size)), size });
    rest = rest.subarray(size);
  }
  return { lines, rest: rest.slice() };
}

function joined(first, second) {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

function rowsOf(text, style, columns) {
  const [runs, after] = runsOf(text, style);
  const rows = [];
  let [row, width] = [[], 0];
  for (const [piece, pieceStyle] of runs) {
    let left = piece.includes("\t") ? expanded(piece, width) : piece;
    while (width + left.length > columns) {
      let room = columns - width;
      if (room > 0 && isHigh(left.charCodeAt(room - 1))) room -= 1; // no half of a character
      if (room > 0) row.push([left.slice(0, room), pieceStyle]);
      rows.push(row);
      left = left.slice(Math.max(room, 0));
      [row, width] = [[], 0];
    }
    if (left) row.push([left, pieceStyle]);
    width += left.length;
  }
  rows.push(row);
  return [rows, after];
}

function isHigh(code) {
  return code >= 0xd800 && code < 0xdc00;
}

function expanded(text, width) {
  let result = "";
  for (const character of text) result += character === "\t" ? " ".repeat(TAB - ((width + result.length) % TAB)) : character;
  return result;
}
