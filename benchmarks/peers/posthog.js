// The smaller build that its documents offer to those who want events alone.
import posthog from "posthog-js/dist/module.slim";

export const start = () => {
  posthog.init("phc_bench", {
    api_host: location.origin,
    autocapture: false,
    capture_pageview: false,
    capture_pageleave: false,
    disable_session_recording: true,
    disable_external_dependency_loading: true,
    disable_surveys: true,
    advanced_disable_flags: true,
    // The harness reads bodies, and a browser that is driven is a robot.
    disable_compression: true,
    opt_out_useragent_filter: true,
  });
  return (name, metadata) => posthog.capture(name, metadata);
};
