// @ts-check
/** What a session was opened with, in words: "Firefox on Windows". */

// The first that matches counts: Edge names Chrome too, Chrome names Safari, Android names Linux.
/** @type {[mark: RegExp, name: string][]} */
const PROGRAMS = [
  [/\bEdgA?\/|\bEdgiOS\//, "Edge"],
  [/\bOPR\/|\bOpera\b/, "Opera"],
  [/\bSamsungBrowser\//, "Samsung Internet"],
  [/\bFirefox\/|\bFxiOS\//, "Firefox"],
  [/\bChrom(e|ium)\/|\bCriOS\/|\bHeadlessChrome\//, "Chrome"],
  [/\bSafari\//, "Safari"],
  [/^curl\//, "curl"],
  [/^python-httpx|^python-httpx2|^httpx/, "Python (httpx)"],
  [/^python-requests\//, "Python (requests)"],
  [/^Python/, "Python"],
  [/^Go-http-client\//, "Go"],
  [/^okhttp\//, "okhttp"],
  [/^Java|^Apache-HttpClient/, "Java"],
  [/^node|^undici|^axios\//, "Node.js"],
  [/^PostmanRuntime\//, "Postman"],
];
/** @type {[mark: RegExp, name: string][]} */
const SYSTEMS = [
  [/\biPhone\b/, "iPhone"],
  [/\biPad\b/, "iPad"],
  [/\bAndroid\b/, "Android"],
  [/\bCrOS\b/, "ChromeOS"],
  [/\bWindows\b/, "Windows"],
  [/\bMac OS X\b|\bMacintosh\b/, "macOS"],
  [/\bLinux\b/, "Linux"],
];

/**
 * Describe a user agent. One that is not known is shown as it is, one that is missing is said to be.
 *
 * @param {string | null} userAgent
 */
export function deviceOf(userAgent) {
  if (!userAgent) return "Unknown program";
  const program = nameIn(PROGRAMS, userAgent);
  const system = nameIn(SYSTEMS, userAgent);
  if (program && system) return `${program} on ${system}`;
  return program ?? (system ? `A program on ${system}` : userAgent);
}

/**
 * @param {[mark: RegExp, name: string][]} known
 * @param {string} userAgent
 */
function nameIn(known, userAgent) {
  return known.find(([mark]) => mark.test(userAgent))?.[1];
}
