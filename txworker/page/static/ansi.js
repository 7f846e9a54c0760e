// Colours of terminals (SGR), as runs of text; every other escape sequence is left out. No DOM here.

const SEQUENCE = /\x1b(?:\[([0-?]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])/g;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]/g;

export const PLAIN = Object.freeze({ flags: "", fore: "", back: "" });

// The runs of one line, and the style after it. A line that a program has written over again and again, as progress bars
// are, is what it was last, in the style that all of it has set.
export function runsOf(text, style) {
  let end = text.length;
  while (text[end - 1] === "\r") end -= 1;
  const begin = text.lastIndexOf("\r", end - 1) + 1;
  const [, before] = styled(text.slice(0, begin), style);
  return styled(text.slice(begin, end), before);
}

function styled(text, style) {
  const runs = [];
  let at = 0;
  for (const found of text.matchAll(SEQUENCE)) {
    push(runs, text.slice(at, found.index), style);
    at = found.index + found[0].length;
    if (found[2] === "m") style = changed(style, found[1]);
  }
  push(runs, text.slice(at), style);
  return [runs, style];
}

function push(runs, text, style) {
  if (!text) return;
  const shown = text.replace(CONTROLS, (c) => {
    const code = c.charCodeAt(0);
    return code < 32 ? String.fromCharCode(0x2400 + code) : code === 127 ? "\u2421" : `\\u${code.toString(16).padStart(4, "0")}`;
  });
  runs.push([shown, style]);
}

function changed(style, parameters) {
  if (/[^0-9;:]/.test(parameters)) return style; // a terminal's own, such as \x1b[>4;2m
  const words = parameters.split(";");
  let { flags, fore, back } = style;
  const without = (flag) => flags.replaceAll(flag, "");
  for (let i = 0; i < words.length; i++) {
    const [code, ...below] = numbers(words[i].split(":")); // 4:3, 38:2::1:2:3
    if (code === 0) [flags, fore, back] = ["", "", ""];
    else if (code === 1) flags = `${without("b")}b`;
    else if (code === 2) flags = `${without("d")}d`;
    else if (code === 3) flags = `${without("i")}i`;
    else if (code === 4 && below[0] === 0) flags = without("u");
    else if (code === 4 || code === 21) flags = `${without("u")}u`;
    else if (code === 7) flags = `${without("r")}r`;
    else if (code === 9) flags = `${without("s")}s`;
    else if (code === 22) flags = flags.replace(/[bd]/g, "");
    else if (code === 23) flags = without("i");
    else if (code === 24) flags = without("u");
    else if (code === 27) flags = without("r");
    else if (code === 29) flags = without("s");
    else if (code >= 30 && code <= 37) fore = code - 30;
    else if (code >= 90 && code <= 97) fore = code - 90 + 8;
    else if (code >= 40 && code <= 47) back = code - 40;
    else if (code >= 100 && code <= 107) back = code - 100 + 8;
    else if (code === 39) fore = "";
    else if (code === 49) back = "";
    else if (code === 38 || code === 48 || code === 58) { // 58: of the underline, which is not shown
      const parts = below.length ? below : numbers(words.slice(i + 1, i + 5));
      if (parts[0] !== 5 && parts[0] !== 2) break;
      const colour = parts[0] === 5 ? indexed(parts[1]) : rgb(...(below.length > 4 ? parts.slice(2, 5) : parts.slice(1, 4)));
      if (!below.length) i += parts[0] === 5 ? 2 : 4;
      if (code === 38) fore = colour;
      else if (code === 48) back = colour;
    }
  }
  return flags || fore !== "" || back !== "" ? { flags, fore, back } : PLAIN;
}

function numbers(words) {
  return words.map((word) => Number(word) || 0);
}

function rgb(red = 0, green = 0, blue = 0) {
  return `rgb(${[red, green, blue].map((part) => Math.min(255, part)).join(",")})`;
}

function indexed(code = 0) {
  if (code < 16) return code;
  if (code >= 232) return rgb(...Array(3).fill(8 + 10 * (Math.min(code, 255) - 232)));
  const level = (part) => (part ? 55 + 40 * part : 0);
  return rgb(level(Math.floor((code - 16) / 36)), level(Math.floor((code - 16) / 6) % 6), level((code - 16) % 6));
}
