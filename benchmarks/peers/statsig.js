import { StatsigClient } from "@statsig/js-client";

const VALUES = '{"has_updates":true,"time":1,"feature_gates":{},"dynamic_configs":{},"layer_configs":{},"hash_used":"djb2"}';

export const start = () => {
  const here = location.origin;
  const client = new StatsigClient("client-bench", { userID: "bench" }, {
    networkConfig: { logEventUrl: `${here}/rgstr`, initializeUrl: `${here}/initialize`, sdkExceptionUrl: `${here}/exception` },
  });
  client.dataAdapter.setData(VALUES);
  client.initializeSync({ disableBackgroundCacheRefresh: true });
  return (name, metadata) =>
    client.logEvent(name, undefined, Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, String(value)])));
};
