"""The page chart.html is made of: its style, its body and the script that draws with plotly.js."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --text: #1c2330; --quiet: #5b6575;
        --line: #dfe3e9; --loud: #fff4dd; }
@media (prefers-color-scheme: dark) {
  :root { --back: #12161d; --text: #e4e8ef; --quiet: #9aa5b5; --line: #2a3240; --loud: #3a2e12; }
}
body { margin: 0; padding: 12px 16px; background: var(--back); color: var(--text);
       font: 14px/1.45 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 18px; margin: 0 0 6px; overflow-wrap: anywhere; }
.loud { margin: 0 0 8px; padding: 6px 12px 6px 28px; background: var(--loud); border-radius: 4px; font-size: 13px; }
.loud:empty { display: none; }
.bar { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
select, button { font: inherit; color: inherit; background: var(--back); border: 1px solid var(--line);
                 border-radius: 4px; padding: 4px 8px; max-width: 100%; }
button:disabled { opacity: .4; }
#said { color: var(--quiet); font-size: 13px; margin: 6px 0 0; }
#chart { height: 78vh; min-height: 520px; }
"""

BODY = """<div class="bar">
<select id="symbol" aria-label="Symbol"></select>
<button id="before" title="Previous window">◀</button>
<select id="window" aria-label="What is shown"></select>
<button id="after" title="Next window">▶</button>
</div>
<p id="said" role="status"></p>
<div id="chart"></div>
<noscript>This page draws its chart with JavaScript that is inside the file; please allow it.</noscript>"""

SCRIPT = r"""
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const symbolBox = byId("symbol"), windowBox = byId("window"), said = byId("said");
const GREEN = "#1a9c5b", RED = "#d64545", BLUE = "#2f81f7", ORANGE = "#d98200";
const number = (value, digits) => value.toLocaleString("en", {maximumFractionDigits: digits});
const time = ms => new Date(ms).toISOString().slice(0, 16).replace("T", " ");
const exactTime = ms => new Date(ms).toISOString().slice(0, ms % 1000 ? 23 : 19).replace("T", " ");

function bytes(text) { return Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer; }
function unpack(p) {
  if (p.count !== undefined) return Array.from({length: p.count}, (_, i) => p.start + i * p.step);
  if (p.f !== undefined) return Array.from(new Float64Array(bytes(p.f)));
  if (p.u !== undefined) return Array.from(new Uint16Array(bytes(p.u)), v => (p.from + v) / p.by);
  return Array.from(new Int32Array(bytes(p.i)), v => v / p.by);
}
function unpackPart(part) {
  if (!part.plain) {
    part.plain = {};
    for (const key of ["t", "o", "h", "l", "c", "et", "e", "d"]) part.plain[key] = unpack(part[key]);
  }
  return part.plain;
}
function partsOf(symbol) { return [symbol.overview, ...symbol.windows]; }

const plural = n => `${number(n, 0)} trade${n === 1 ? "" : "s"}`;

function tradesWithin(trades, from, to) {
  const found = [];
  for (let i = 0; i < trades.t0.length; i++)
    if (trades.t0[i] <= to && trades.t1[i] >= from) found.push(i);
  return found;
}
function entryText(long, t, p, qty) {
  return `<b>${long ? "Long" : "Short"} entry</b> ${exactTime(t)}<br>${number(qty, 8)} at ${number(p, 8)}`;
}
function exitText(T, i) {
  const sign = T.pnl[i] > 0 ? "+" : "";
  return `<b>${T.long[i] ? "Long" : "Short"} closed: ${T.why[i]}</b>` +
    `<br>${exactTime(T.t1[i])} at ${number(T.p1[i], 8)}` +
    `<br>net ${sign}${number(T.pnl[i], 2)} USDT (${sign}${number(T.pct[i], 2)} % of margin)` +
    `<br>in since ${exactTime(T.t0[i])} at ${number(T.p0[i], 8)}`;
}
function marks(many, name, color, shape, x, y, text) {
  const marker = many > 300 ? {color, symbol: shape, size: many > 1200 ? 4 : 6, opacity: 0.7}
    : {color, symbol: shape, size: 10, line: {width: 1, color: "rgba(255,255,255,.8)"}};
  if (shape === "x") Object.assign(marker, {size: 9, opacity: 1});
  return {type: "scatter", mode: "markers", name: `${name} (${x.length})`, x, y, text, hoverinfo: "text", marker};
}
function tradeTraces(symbol, from, to) {
  const T = symbol.trades, within = tradesWithin(T, from, to);
  const inside = t => t >= from && t <= to;
  const pick = test => within.filter(test);
  const traces = [];
  if (within.length <= 300) {
    for (const [won, color] of [[true, GREEN], [false, RED]]) {
      const x = [], y = [];
      for (const i of pick(i => T.pnl[i] > 0 === won)) {
        x.push(T.t0[i], T.t1[i], null);
        y.push(T.p0[i], T.p1[i], null);
      }
      traces.push({type: "scatter", mode: "lines", x, y, line: {color, width: 1.5, dash: "dot"},
        hoverinfo: "skip", showlegend: false});
    }
  }
  for (const long of [1, 0]) {
    const own = pick(i => T.long[i] === long && inside(T.t0[i]));
    const still = symbol.open.filter(p => p.long === long && inside(p.t0));
    if (own.length + still.length === 0) continue;
    traces.push(marks(within.length, long ? "Long entry" : "Short entry", long ? GREEN : RED,
      long ? "triangle-up" : "triangle-down",
      [...own.map(i => T.t0[i]), ...still.map(p => p.t0)], [...own.map(i => T.p0[i]), ...still.map(p => p.p0)],
      [...own.map(i => entryText(long, T.t0[i], T.p0[i], T.qty[i])),
       ...still.map(p => entryText(long, p.t0, p.p0, p.qty) + `<br>still open, unrealised ${number(p.pnl, 2)} USDT`)]));
  }
  const forced = i => ["liquidation", "stop_loss", "error", "manual"].includes(T.why[i]);
  const closes = [["Exit, won", BLUE, "circle", i => T.pnl[i] > 0 && !forced(i)],
    ["Exit, lost", ORANGE, "circle", i => !(T.pnl[i] > 0) && !forced(i)],
    ["Stop, manual, error", ORANGE, "x", i => forced(i) && T.why[i] !== "liquidation"],
    ["Liquidation", RED, "x", i => T.why[i] === "liquidation"]];
  for (const [name, color, shape, test] of closes) {
    const own = pick(i => inside(T.t1[i]) && test(i));
    if (own.length) traces.push(marks(within.length, name, color, shape,
      own.map(i => T.t1[i]), own.map(i => T.p1[i]), own.map(i => exitText(T, i))));
  }
  return traces;
}
function traces(symbol, part) {
  const p = unpackPart(part), from = p.t[0], to = endOf(p);
  return [
    {type: "candlestick", name: symbol.name, x: p.t, open: p.o, high: p.h, low: p.l, close: p.c, showlegend: false,
      increasing: {line: {color: GREEN, width: 1}}, decreasing: {line: {color: RED, width: 1}}},
    ...(p.t.length ? tradeTraces(symbol, from, to) : []),
    {type: "scatter", mode: "lines", name: "Equity", x: p.et, y: p.e, yaxis: "y2", showlegend: false,
      line: {color: BLUE, width: 1.5}, hovertemplate: "%{x|%Y-%m-%d %H:%M}<br>equity %{y:,.2f} USDT<extra></extra>"},
    {type: "scatter", mode: "lines", name: "Drawdown", x: p.et, y: p.d, yaxis: "y3", showlegend: false, fill: "tozeroy",
      line: {color: RED, width: 1}, hovertemplate: "%{x|%Y-%m-%d %H:%M}<br>drawdown %{y:.2f} %<extra></extra>"},
  ];
}
function endOf(p) {
  const n = p.t.length;
  return n > 1 ? p.t[n - 1] + (p.t[n - 1] - p.t[n - 2]) - 1 : p.t[0] + 86400000;
}
function layout() {
  const style = getComputedStyle(document.documentElement), color = name => style.getPropertyValue(name).trim();
  const line = color("--line");
  const axis = {gridcolor: line, linecolor: line, zerolinecolor: line, separatethousands: true};
  return {
    paper_bgcolor: color("--back"), plot_bgcolor: color("--back"), font: {color: color("--text"), size: 12},
    margin: {l: 70, r: 16, t: 8, b: 36}, hovermode: "closest", dragmode: "pan",
    hoverlabel: {align: "left"},
    legend: {orientation: "h", y: 1.0, yanchor: "bottom", x: 0},
    xaxis: {...axis, type: "date", anchor: "y3", rangeslider: {visible: false}, showspikes: true,
      spikemode: "across", spikethickness: 1, spikecolor: color("--quiet")},
    yaxis: {...axis, domain: [0.42, 1], title: {text: "Price, USDT"}, exponentformat: "none"},
    yaxis2: {...axis, domain: [0.19, 0.38], title: {text: "Equity"}, exponentformat: "none"},
    yaxis3: {...axis, domain: [0, 0.15], title: {text: "Drawdown, %"}},
  };
}
function sayWhat(symbol, which, part) {
  const p = unpackPart(part), shown = tradesWithin(symbol.trades, p.t[0], endOf(p)).length;
  const all = symbol.allTrades, marked = symbol.trades.t0.length;
  if (!p.t.length) return `${symbol.name}: no candles.`;
  let text = `${symbol.name}, ${time(p.t[0])} to ${time(endOf(p))} UTC. `;
  if (which === 0 && symbol.perBar > 1) {
    text += `Overview: each bar joins ${symbol.perBar} candles of ${data.timeframe}, ` +
      `${number(symbol.candles, 0)} in all; drawdown is the worst within a bar, markers stand at their exact times. `;
    if (all) text += `Full candles around ${number(symbol.inWindows, 0)} of ${plural(all)}: choose a window above` +
      (symbol.inWindows < all ? " (liquidations and stops first, then the largest results)" : "") + ". ";
    if (marked < all) text += `Markers for ${number(marked, 0)} of ${plural(all)}. `;
  } else {
    text += `Every candle of ${data.timeframe} is shown, ${number(p.t.length, 0)} in all`;
    text += all ? `, with ${plural(shown)}. ` : ". ";
  }
  return text + (all ? "" : "No trades were closed.");
}
function windowName(symbol, part) {
  const p = unpackPart(part), T = symbol.trades, within = tradesWithin(T, p.t[0], endOf(p));
  const sum = within.reduce((total, i) => total + T.pnl[i], 0);
  const forced = within.filter(i => T.why[i] === "liquidation").length;
  return `${time(p.t[0])} – ${time(endOf(p))} · ${plural(within.length)} · ` +
    `${sum > 0 ? "+" : ""}${number(sum, 2)} USDT${forced ? ` · ${forced} liquidated` : ""}`;
}
function draw() {
  const symbol = data.symbols[symbolBox.value], which = Number(windowBox.value);
  if (!symbol) { said.textContent = "There are no candles to show."; return; }
  const part = partsOf(symbol)[which];
  said.textContent = sayWhat(symbol, which, part);
  byId("before").disabled = which === 0;
  byId("after").disabled = which === symbol.windows.length;
  byId("chart").hidden = !unpackPart(part).t.length;
  if (byId("chart").hidden) return;
  Plotly.react("chart", traces(symbol, part), layout(), {responsive: true, displaylogo: false, scrollZoom: true});
}
function fillWindows() {
  const symbol = data.symbols[symbolBox.value];
  const names = symbol ? ["Overview, the whole run", ...symbol.windows.map(part => windowName(symbol, part))] : [];
  windowBox.replaceChildren(...names.map((name, i) => new Option(name, i)));
  const choice = names.length > 1;
  windowBox.hidden = byId("before").hidden = byId("after").hidden = !choice;
}
function step(by) { windowBox.value = Number(windowBox.value) + by; draw(); }
symbolBox.replaceChildren(...data.symbols.map((symbol, i) => new Option(symbol.name, i)));
symbolBox.hidden = data.symbols.length < 2;
symbolBox.addEventListener("change", () => { fillWindows(); draw(); });
windowBox.addEventListener("change", draw);
byId("before").addEventListener("click", () => step(-1));
byId("after").addEventListener("click", () => step(1));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
fillWindows();
draw();
"""
