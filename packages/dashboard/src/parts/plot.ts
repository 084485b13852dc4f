/** The canvas behind the activity chart. */

import UPlot from "uplot";
import { clock, short, type Zone } from "../format";
import type { Shaped } from "../series";

export const MINUTE = 60;

export type PlotState = { shaped: Shaped; stacked: (number | null)[][]; sums: (number | null)[] };

type PlotOptions = {
  /** The numbers as they are now; read at every drawing. */
  read: () => PlotState;
  zone: Zone;
  /** CSS variables, one for each series from the bottom of the stack up. */
  colours: string[];
  /** Called with the minute under the pointer, or null when it leaves. `left` in CSS pixels of the chart. */
  onMove: (at: { index: number; left: number } | null) => void;
};

/**
 * The tallest bar must be drawn first, so that each lower one covers its foot. A bar of no height is left out: its
 * outline would break the base line.
 */
export const toData = (times: number[], stacked: (number | null)[][]): UPlot.AlignedData => [
  times,
  ...stacked.map((sums) => sums.map((sum) => sum || null)).reverse(),
];

/** A canvas knows no `light-dark()`: the variable is resolved through an element. */
const resolve = (element: HTMLElement, variable: string): string => {
  const probe = document.createElement("span");
  probe.style.color = `var(${variable})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
};

const stripes = (colour: string, ratio: number): CanvasPattern | null => {
  const size = Math.round(6 * ratio);
  const tile = document.createElement("canvas");
  tile.width = size;
  tile.height = size;
  const context = tile.getContext("2d");
  if (!context) return null;
  context.strokeStyle = colour;
  context.lineWidth = size / 2.6;
  for (const shift of [-size, 0, size]) {
    context.beginPath();
    context.moveTo(shift - size * 0.5, size * 1.5);
    context.lineTo(shift + size * 1.5, size * -0.5);
    context.stroke();
  }
  return context.createPattern(tile, "repeat");
};

/** Whole numbers only: half an event is none. */
const STEPS = [1, 2, 5].flatMap((step) => Array.from({ length: 10 }, (_, power) => step * 10 ** power)).sort((a, b) => a - b);

export const createPlot = (element: HTMLElement, { read, zone, colours, onMove }: PlotOptions): UPlot => {
  const surface = resolve(element, "--surface");
  const faint = resolve(element, "--text-faint");
  const line = resolve(element, "--line");
  const font = `12px ${getComputedStyle(element).fontFamily}`;
  const running = stripes(surface, devicePixelRatio);
  const missing = stripes(line, devicePixelRatio);
  const bars = UPlot.paths.bars?.({ size: [0.84, 48], align: 1, radius: 0 });

  const fillMinute = (plot: UPlot, index: number, top: number, pattern: CanvasPattern | null) => {
    const time = plot.data[0][index];
    if (time === undefined || !pattern) return;
    const left = plot.valToPos(time, "x", true);
    const right = plot.valToPos(time + MINUTE, "x", true);
    const bottom = plot.bbox.top + plot.bbox.height;
    plot.ctx.save();
    plot.ctx.fillStyle = pattern;
    plot.ctx.fillRect(left, top, right - left, bottom - top);
    plot.ctx.restore();
  };

  const drawMarks = (plot: UPlot) => {
    const { shaped, sums } = read();
    sums.forEach((sum, index) => {
      if (sum === null) fillMinute(plot, index, plot.bbox.top, missing);
    });
    const last = shaped.unfinished;
    const height = last === null ? null : (sums[last] ?? null);
    if (last !== null && height !== null && height > 0) fillMinute(plot, last, plot.valToPos(height, "y", true), running);
  };

  const options: UPlot.Options = {
    width: element.clientWidth,
    height: element.clientHeight,
    // Top, right, bottom, left: room for half a label ("03:15") at the right end.
    padding: [8, 20, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: {
      x: { time: false, range: (_, from, to) => [from, to + MINUTE] },
      y: { range: (_, __, most) => [0, Math.max(4, (most ?? 0) * 1.08)] },
    },
    axes: [
      {
        stroke: faint,
        font,
        size: 28,
        gap: 6,
        space: 72,
        incrs: [MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE],
        grid: { show: false },
        ticks: { stroke: line, size: 4, width: 1 },
        values: (_, splits) => splits.map((split) => clock(split * 1000, zone)),
      },
      {
        stroke: faint,
        font,
        size: 44,
        gap: 8,
        space: 40,
        incrs: STEPS,
        grid: { stroke: line, width: 1 },
        ticks: { show: false },
        values: (_, splits) => splits.map(short),
      },
    ],
    series: [
      {},
      ...[...colours].reverse().map(
        (colour): UPlot.Series => ({
          fill: resolve(element, colour),
          stroke: surface,
          width: 1,
          points: { show: false },
          ...(bars ? { paths: bars } : {}),
        }),
      ),
    ],
    hooks: {
      draw: [drawMarks],
      setCursor: [
        (plot) => {
          const { left } = plot.cursor;
          if (left === undefined || left < 0) return onMove(null);
          const times = plot.data[0];
          // A bar stands on the whole minute right of its start, so the nearest start is the wrong one half of the time.
          const index = Math.floor((plot.posToVal(left, "x") - (times[0] ?? 0)) / MINUTE);
          const time = times[index];
          if (time === undefined) return onMove(null);
          onMove({ index, left: plot.valToPos(time + MINUTE / 2, "x") + plot.over.offsetLeft });
        },
      ],
    },
  };
  const { shaped, stacked } = read();
  return new UPlot(options, toData(shaped.times, stacked), element);
};
