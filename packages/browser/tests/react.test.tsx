// @vitest-environment happy-dom
import { act, StrictMode, useEffect, useState, type ReactNode } from "react";
import { createRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { beforeEach, describe, expect, it } from "vitest";

import type { Analytics } from "../src/client";
import { AnalyticsProvider, useAnalytics, useTrackOnce } from "../src/react/index";
import { createStage } from "./stage";

beforeEach(() => {
  (globalThis as unknown as Record<string, unknown>)["IS_REACT_ACT_ENVIRONMENT"] = true;
  document.body.replaceChildren();
});

const mount = async (tree: ReactNode): Promise<HTMLElement> => {
  const place = document.body.appendChild(document.createElement("div"));
  await act(async () => createRoot(place).render(<StrictMode>{tree}</StrictMode>));
  return place;
};

const View = (): ReactNode => {
  useTrackOnce((analytics) => analytics.page("home"));
  return null;
};

describe("the hook", () => {
  it("tracks a view once under StrictMode, which runs effects twice", async () => {
    const stage = createStage();
    const analytics = stage.open();
    await mount(<AnalyticsProvider analytics={analytics}><View /></AnalyticsProvider>);
    await analytics.flush();
    expect(stage.events().map((e) => e.event_name)).toEqual(["page_view"]);
  });

  it("gives the same object at every render", async () => {
    const seen = new Set<Analytics>();
    const analytics = createStage().open();
    const Button = (): ReactNode => {
      const [count, setCount] = useState(0);
      seen.add(useAnalytics());
      return <button onClick={() => setCount(count + 1)}>{count}</button>;
    };
    const place = await mount(<AnalyticsProvider analytics={analytics}><Button /></AnalyticsProvider>);
    await act(async () => place.querySelector("button")?.click());
    expect(place.textContent).toBe("1");
    expect([...seen]).toEqual([analytics]);
  });

  it("does nothing where no provider is mounted", async () => {
    let found: Analytics | undefined;
    const Probe = (): ReactNode => {
      found = useAnalytics();
      return null;
    };
    await mount(<Probe />);
    expect(found?.trackEvent({ name: "a" }).id).toBe("");
    await expect(found?.flush()).resolves.toBeUndefined();
  });

  it("renders on a server", () => {
    const Name = (): ReactNode => <b>{typeof useAnalytics().trackEvent}</b>;
    expect(renderToString(<AnalyticsProvider analytics={createStage().open()}><Name /></AnalyticsProvider>)).toBe("<b>function</b>");
  });
});

describe("a service made in a component", () => {
  it("and closed when StrictMode unmounts it goes on in the second mount", async () => {
    const stage = createStage();
    const made: Analytics[] = [];
    const Owner = (): ReactNode => {
      const [analytics, setAnalytics] = useState<Analytics>();
      useEffect(() => {
        const service = stage.open();
        made.push(service);
        setAnalytics(service);
        return () => void service.shutdown();
      }, []);
      return analytics ? <AnalyticsProvider analytics={analytics}><View /></AnalyticsProvider> : null;
    };
    await mount(<Owner />);
    await made.at(-1)?.flush();
    expect(made).toHaveLength(2);
    expect(stage.events().map((e) => e.event_name)).toEqual(["page_view"]);
  });
});
