import { useQuery } from "@tanstack/react-query";
import { ActivityTile } from "../parts/ActivityTile";
import { FirstEvent } from "../parts/FirstEvent";
import { LiveTile } from "../parts/LiveTile";
import { PipelineTile } from "../parts/PipelineTile";
import { queries } from "../queries";
import { useTitle } from "../title";
import styles from "./Page.module.css";

/** Does it work, right now? */
export const LivePage = () => {
  useTitle("Live");
  const { data } = useQuery(queries.pipeline());
  return (
    <div className={styles.stack}>
      <h1 className="visually-hidden">Live: does it work, right now?</h1>
      {data?.received === 0 && <FirstEvent />}
      <PipelineTile />
      {data?.received !== 0 && (
        <>
          <ActivityTile />
          <LiveTile />
        </>
      )}
    </div>
  );
};
