// Figures and times as people read them.

const whole = new Intl.NumberFormat("en");

// count writes 1234567 as "1,234,567".
export const count = (n) => whole.format(n ?? 0);

// plural writes "1 session", "12 sessions".
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

// rate writes events a second: two significant digits are enough to act on.
export function rate(n) {
  if (!n) return "0";
  if (n < 0.1) return "<0.1";
  return n < 10 ? n.toFixed(1) : count(Math.round(n));
}

// share writes a part of a whole as a percentage.
export function share(part) {
  const percent = 100 * part;
  return percent > 0 && percent < 1 ? "<1 %" : `${Math.round(percent)} %`;
}

// bytes writes 1536 as "1.5 KiB".
export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

// span writes seconds as their two greatest units: "3 d 4 h", "12 min", "8 s".
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return `${m} min`;
  const hours = Math.floor(m / 60);
  if (hours < 24) return m % 60 ? `${hours} h ${m % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return days < 10 && hours % 24 ? `${days} d ${hours % 24} h` : `${count(days)} d`;
}

// isTime says whether the API gave a time: Go writes none as the year 1.
export const isTime = (t) => Boolean(t) && !t.startsWith("0001-");

// clock writes a time of today as "03:12:08", another with its date, both in
// the time zone of the reader.
export function clock(t, now = new Date()) {
  const at = new Date(t);
  const two = (n) => String(n).padStart(2, "0");
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return at.toDateString() === now.toDateString() ? time : `${day(t)} ${time}`;
}

// day writes a time as "2026-11-22".
export function day(t) {
  const at = new Date(t);
  const two = (n) => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}
