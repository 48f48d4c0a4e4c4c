// @ts-check
/** The page's configuration: a block of JSON that app/api/console.py writes into the page. */

import { find } from "./dom.js";

/** @type {Api.ConsoleConfig} */
export const config = JSON.parse(find("#config", HTMLScriptElement).text);
