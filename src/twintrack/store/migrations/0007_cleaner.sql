-- Old parts are looked for each second, not each half minute, so that an erasure need not wait for that.
ALTER TABLE analytics.events MODIFY SETTING cleanup_delay_period = 1, max_cleanup_delay_period = 1,
    cleanup_delay_period_random_add = 0;

ALTER TABLE analytics.receipts MODIFY SETTING cleanup_delay_period = 1, max_cleanup_delay_period = 1,
    cleanup_delay_period_random_add = 0;

ALTER TABLE analytics.events_hourly MODIFY SETTING cleanup_delay_period = 1, max_cleanup_delay_period = 1,
    cleanup_delay_period_random_add = 0;

ALTER TABLE analytics.events_daily MODIFY SETTING cleanup_delay_period = 1, max_cleanup_delay_period = 1,
    cleanup_delay_period_random_add = 0;

ALTER TABLE analytics.identities MODIFY SETTING cleanup_delay_period = 1, max_cleanup_delay_period = 1,
    cleanup_delay_period_random_add = 0;
