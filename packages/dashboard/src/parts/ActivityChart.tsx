import { type KeyboardEvent, useEffect, useMemo, useRef, useState } from "react";
import type uPlot from "uplot";
import { colourVariable, slotOf } from "../colour";
import { clock, count, plural, type Zone } from "../format";
import { useDark } from "../preferences";
import { type Shaped, stack, totals } from "../series";
import styles from "./ActivityChart.module.css";
import { createPlot, MINUTE, toData } from "./plot";

type ActivityChartProps = { shaped: Shaped; zone: Zone; slots: Readonly<Record<string, number>> };

const describe = (shaped: Shaped, sums: readonly (number | null)[], at: number, zone: Zone): string => {
  const time = clock((shaped.times[at] ?? 0) * 1000, zone);
  const sum = sums[at] ?? null;
  if (sum === null) return `${time}: no data`;
  const parts = shaped.series.flatMap(({ name, counts }) => (counts[at] ? [`${name} ${count(counts[at])}`] : []));
  return [`${time}${at === shaped.unfinished ? ", still running" : ""}: ${plural(sum, "event")}`, ...parts].join(", ");
};

/** Beside the minute, on the side with more room, and never outside of the chart. CSS pixels. */
const beside = (left: number, width: number) => (left > width / 2 ? { right: `min(${width - left + 20}px, calc(100% - 216px))` } : { left: `min(${left + 20}px, calc(100% - 216px))` });

/** Stacked bars, one a minute. Moves with the pointer and with the arrow keys; the table says the same in figures. */
export const ActivityChart = ({ shaped, zone, slots }: ActivityChartProps) => {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [at, setAt] = useState<{ index: number; left: number } | null>(null);
  const dark = useDark();
  const sums = useMemo(() => totals(shaped), [shaped]);
  const stacked = useMemo(() => stack(shaped.series.map(({ counts }) => counts)), [shaped]);
  const latest = useRef({ shaped, stacked, sums });
  latest.current = { shaped, stacked, sums };

  // A new plot only where its form changes; new numbers go into the one that stands.
  const form = JSON.stringify([shaped.series.map(({ name }) => [name, slotOf(name, slots)]), zone, dark]);
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const made = createPlot(element, {
      read: () => latest.current,
      zone,
      colours: latest.current.shaped.series.map(({ name }) => colourVariable(name, slots)),
      onMove: setAt,
    });
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: element.clientHeight }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
      setAt(null);
    };
    // `form` stands for zone, colours and theme.
  }, [form]);

  useEffect(() => {
    plot.current?.setData(toData(shaped.times, stacked));
  }, [shaped, stacked]);

  const last = shaped.times.length - 1;
  const current = at && at.index <= last ? at : null;
  const index = current?.index ?? last;

  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Record<string, number> = { ArrowLeft: index - 1, ArrowDown: index - 1, ArrowRight: index + 1, ArrowUp: index + 1, Home: 0, End: last };
    const made = plot.current;
    if (event.key === "Escape") made?.setCursor({ left: -10, top: -10 });
    const next = steps[event.key];
    if (next === undefined || !made) return;
    event.preventDefault();
    const target = current ? Math.min(last, Math.max(0, next)) : event.key === "Home" ? 0 : last;
    made.setCursor({ left: made.valToPos((shaped.times[target] ?? 0) + MINUTE / 2, "x"), top: 8 });
  };

  return (
    <div className={styles.chart}>
      <div
        ref={place}
        className={styles.place}
        role="slider"
        tabIndex={0}
        aria-label="Events per minute, stacked by name; the arrow keys go from minute to minute"
        aria-valuemin={0}
        aria-valuemax={last}
        aria-valuenow={index}
        aria-valuetext={describe(shaped, sums, index, zone)}
        onKeyDown={onKeyDown}
        onBlur={() => plot.current?.setCursor({ left: -10, top: -10 })}
      />
      {current && (
        <div className={styles.tip} style={beside(current.left, plot.current?.width ?? 0)} aria-hidden>
          <p className={styles.tipHead}>
            <span>
              {clock((shaped.times[index] ?? 0) * 1000, zone)}
              {index === shaped.unfinished && " (running)"}
            </span>
            <strong>{sums[index] === null || sums[index] === undefined ? "no data" : count(sums[index])}</strong>
          </p>
          {shaped.series.map(
            ({ name, counts }) =>
              (counts[index] ?? 0) > 0 && (
                <p key={name} className={styles.tipRow}>
                  <span className={styles.swatch} style={{ background: `var(${colourVariable(name, slots)})` }} />
                  <span className={styles.tipName}>{name}</span>
                  <span>{count(counts[index] ?? 0)}</span>
                </p>
              ),
          )}
        </div>
      )}
    </div>
  );
};
