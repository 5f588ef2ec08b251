-- The tables, indices and views of schema 3, as lwspec 0.3.0 makes them.
CREATE TABLE about (
	"key" VARCHAR NOT NULL, 
	value VARCHAR NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE TABLE jobs (
	id VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	step VARCHAR NOT NULL, 
	label VARCHAR NOT NULL, 
	settings JSON NOT NULL, 
	inputs JSON NOT NULL, 
	outputs JSON NOT NULL, 
	folder_mtime_ns BIGINT NOT NULL, 
	below VARCHAR, 
	settled BOOLEAN NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE attempts (
	job VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	spec VARCHAR, 
	started_at FLOAT, 
	ended_at FLOAT, 
	outcome VARCHAR, 
	message VARCHAR, 
	host VARCHAR, 
	hardware VARCHAR, 
	git_sha VARCHAR, 
	dirty BOOLEAN, 
	command VARCHAR, 
	wall_s FLOAT, 
	device_s FLOAT NOT NULL, 
	peak_bytes BIGINT, 
	modelled_s FLOAT, 
	gpu VARCHAR, 
	cost_version INTEGER, 
	price_key VARCHAR, 
	progress JSON, 
	evidence JSON, 
	events_read BIGINT NOT NULL, 
	PRIMARY KEY (job, number)
);
CREATE TABLE outputs (
	job VARCHAR NOT NULL, 
	output VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	taken_at FLOAT NOT NULL, 
	files JSON NOT NULL, 
	facts JSON NOT NULL, 
	PRIMARY KEY (job, output)
);
CREATE TABLE metrics (
	job VARCHAR NOT NULL, 
	output VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	value FLOAT NOT NULL, 
	PRIMARY KEY (job, output, name)
);
CREATE TABLE points (
	job VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	step BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	value FLOAT, 
	PRIMARY KEY (job, name, step)
);
CREATE TABLE cells (
	"plan" VARCHAR NOT NULL, 
	experiment VARCHAR NOT NULL, 
	arm VARCHAR NOT NULL, 
	task VARCHAR NOT NULL, 
	seed BIGINT NOT NULL, 
	point VARCHAR NOT NULL, 
	fit VARCHAR, 
	evaluate VARCHAR NOT NULL, 
	PRIMARY KEY ("plan", experiment, arm, task, seed, point)
);
CREATE INDEX jobs_seen ON jobs (settled, id, folder_mtime_ns, below);
CREATE INDEX attempts_spent ON attempts (spec, device_s);
CREATE INDEX attempts_measured ON attempts (price_key, cost_version, gpu, modelled_s, device_s);
CREATE INDEX cells_by_evaluate ON cells (evaluate);
CREATE VIEW results AS SELECT DISTINCT cells."plan" AS spec, cells.experiment, cells.arm, cells.task, CASE WHEN ((cells.fit IS NULL OR fits.id IS NOT NULL) AND json_extract(fits.settings, '$.' || 'seed') IS NULL AND json_extract(jobs.settings, '$.' || 'seed') IS NULL) THEN NULL ELSE cells.seed END AS seed, cells.point, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'accuracy') AS accuracy, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'macro_f1') AS macro_f1, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'strict_accuracy') AS strict_accuracy, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'unparsed_rate') AS unparsed_rate, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'exact_match') AS exact_match, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'token_f1') AS token_f1, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'rouge1') AS rouge1, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'rouge2') AS rouge2, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'rougeL') AS "rougeL", (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'entity_recall') AS entity_recall, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'message_bytes') AS message_bytes, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'context_bits') AS context_bits, datetime(outputs.taken_at, 'unixepoch') AS finished, cells.evaluate AS job, outputs.attempt, cells.fit 
FROM cells JOIN outputs ON outputs.job = cells.evaluate AND outputs.output = 'result' JOIN jobs ON jobs.id = outputs.job LEFT OUTER JOIN jobs AS fits ON fits.id = cells.fit 
WHERE jobs.kind = 'evaluate';
CREATE VIEW timings AS SELECT DISTINCT cells."plan" AS spec, cells.experiment, cells.arm, cells.task, CASE WHEN ((cells.fit IS NULL OR fits.id IS NOT NULL) AND json_extract(fits.settings, '$.' || 'seed') IS NULL AND json_extract(jobs.settings, '$.' || 'seed') IS NULL) THEN NULL ELSE cells.seed END AS seed, cells.point, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'sender_ms') AS sender_ms, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'sender_ms_sd') AS sender_ms_sd, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'sender_ms_p50') AS sender_ms_p50, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'sender_ms_p95') AS sender_ms_p95, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'adapter_ms') AS adapter_ms, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'adapter_ms_sd') AS adapter_ms_sd, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'adapter_ms_p50') AS adapter_ms_p50, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'adapter_ms_p95') AS adapter_ms_p95, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'prefill_ms') AS prefill_ms, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'prefill_ms_sd') AS prefill_ms_sd, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'prefill_ms_p50') AS prefill_ms_p50, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'prefill_ms_p95') AS prefill_ms_p95, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'decode_ms') AS decode_ms, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'decode_ms_sd') AS decode_ms_sd, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'decode_ms_p50') AS decode_ms_p50, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'decode_ms_p95') AS decode_ms_p95, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'total_ms') AS total_ms, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'total_ms_sd') AS total_ms_sd, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'total_ms_p50') AS total_ms_p50, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'total_ms_p95') AS total_ms_p95, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'items_per_s') AS items_per_s, (SELECT metrics.value 
FROM metrics 
WHERE metrics.job = outputs.job AND metrics.output = outputs.output AND metrics.name = 'peak_mib') AS peak_mib, datetime(outputs.taken_at, 'unixepoch') AS finished, cells.evaluate AS job, outputs.attempt, cells.fit 
FROM cells JOIN outputs ON outputs.job = cells.evaluate AND outputs.output = 'result' JOIN jobs ON jobs.id = outputs.job LEFT OUTER JOIN jobs AS fits ON fits.id = cells.fit 
WHERE jobs.kind = 'latency';
CREATE VIEW runs AS SELECT attempts.spec, jobs.kind, jobs.label, attempts.job, attempts.number AS attempt, attempts.outcome, attempts.message, datetime(attempts.started_at, 'unixepoch') AS started, datetime(attempts.ended_at, 'unixepoch') AS ended, attempts.wall_s, attempts.device_s, attempts.peak_bytes, attempts.hardware, attempts.host, attempts.git_sha, attempts.dirty, attempts.command 
FROM attempts JOIN jobs ON jobs.id = attempts.job;
