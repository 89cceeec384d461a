// Small plots, drawn here: a bar for each minute, a line for latencies.

import { words } from "../settings";
import { count, duration, type Lang } from "../time";

const BAR = 4;
const HIGH = 36;

/** Events a minute of the last hour, the newest at the right. */
export function Rates({ rates }: { rates: number[] }) {
  const t = words();
  const most = Math.max(...rates, 1);
  const peak = Math.max(...rates, 0);
  const label = `${t.perMinute}: ${t.peak(peak)}`;
  return (
    <figure class="plot">
      <svg viewBox={`0 0 ${60 * BAR} ${HIGH}`} role="img" aria-label={label} preserveAspectRatio="none">
        <line x1="0" x2={60 * BAR} y1={HIGH - 0.5} y2={HIGH - 0.5} class="axis" />
        {rates.slice(-60).map((rate, index) => {
          if (rate === 0) return null;
          const height = Math.max(2, (rate / most) * (HIGH - 2));
          const x = (60 - Math.min(60, rates.length) + index) * BAR;
          return <rect x={x} y={HIGH - height} width={BAR - 1} height={height} />;
        })}
      </svg>
      <figcaption>
        <span>{t.perMinute}</span>
        <span>{t.peak(peak)}</span>
      </figcaption>
    </figure>
  );
}

interface Latencies {
  p50: number;
  p95: number;
  p99: number;
}

/** p50, p95, p99 on a logarithmic scale from 1 ms to 5 s, the longest that a platform waits. */
export function LatencyPlot({ latencies, lang }: { latencies: Latencies; lang: Lang }) {
  const t = words();
  const at = (ms: number) => Math.min(1, Math.log10(Math.max(1, ms)) / Math.log10(5000));
  const all = Object.entries(latencies) as [keyof Latencies, number][];
  const label = `${t.latency}: ${all.map(([name, ms]) => `${name} ${duration(ms, lang)}`).join(", ")}`;
  return (
    <figure class="plot">
      <svg viewBox="0 0 240 14" role="img" aria-label={label} preserveAspectRatio="none">
        <line x1="0" x2="240" y1="7" y2="7" class="axis" />
        <line x1={at(latencies.p50) * 236 + 2} x2={at(latencies.p99) * 236 + 2} y1="7" y2="7" class="range" />
        {all.map(([name, ms]) => (
          <rect x={at(ms) * 236} y={name === "p50" ? 1 : 3} width="4" height={name === "p50" ? 12 : 8} rx="1" />
        ))}
      </svg>
      <figcaption>
        {all.map(([name, ms]) => (
          <span>
            <span class="quiet">{name}</span> {duration(ms, lang)}
          </span>
        ))}
      </figcaption>
    </figure>
  );
}

export const Count = ({ of }: { of: number }) => <span class="num">{count(of)}</span>;
