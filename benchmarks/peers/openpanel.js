import { OpenPanel } from "@openpanel/web";

export const start = () => {
  const client = new OpenPanel({ clientId: "bench", apiUrl: `${location.origin}/api` });
  return (name, metadata) => client.track(name, metadata);
};
