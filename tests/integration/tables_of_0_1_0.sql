-- As 0.1.0 makes them.
CREATE TABLE pijobs_counter (
	queue TEXT NOT NULL,
	name TEXT NOT NULL,
	times TEXT NOT NULL,
	until BIGINT NOT NULL,
	PRIMARY KEY (queue, name)
);
CREATE TABLE pijobs_group (
	queue TEXT NOT NULL,
	name TEXT NOT NULL,
	lim BIGINT,
	blocked_until BIGINT,
	paused SMALLINT NOT NULL,
	policy TEXT NOT NULL,
	version BIGINT NOT NULL,
	PRIMARY KEY (queue, name)
);
CREATE TABLE pijobs_instance (
	seq INTEGER NOT NULL,
	queue TEXT NOT NULL,
	id TEXT NOT NULL,
	name TEXT NOT NULL,
	state SMALLINT NOT NULL,
	grp TEXT NOT NULL,
	priority INTEGER NOT NULL,
	rank BIGINT NOT NULL,
	created BIGINT NOT NULL,
	enqueued BIGINT NOT NULL,
	place BIGINT NOT NULL,
	deadline BIGINT,
	due BIGINT NOT NULL,
	alarm BIGINT,
	attend BIGINT,
	attempts INTEGER NOT NULL,
	crashes INTEGER NOT NULL,
	started BIGINT,
	ended BIGINT,
	session TEXT,
	token TEXT,
	ukey TEXT,
	subject TEXT,
	lim BIGINT,
	keep BIGINT,
	held_since BIGINT,
	reason TEXT,
	error TEXT,
	history TEXT,
	envelope BLOB NOT NULL,
	body BLOB,
	PRIMARY KEY (seq),
	CONSTRAINT pijobs_instance_id UNIQUE (queue, id)
);
CREATE INDEX pijobs_instance_alarm ON pijobs_instance (queue, alarm) WHERE alarm IS NOT NULL;
CREATE INDEX pijobs_instance_attend ON pijobs_instance (queue, attend) WHERE attend IS NOT NULL;
CREATE INDEX pijobs_instance_group ON pijobs_instance (queue, grp, state, place, seq);
CREATE UNIQUE INDEX pijobs_instance_key ON pijobs_instance (queue, ukey) WHERE ukey IS NOT NULL;
CREATE INDEX pijobs_instance_lease ON pijobs_instance (queue, state, grp, rank, seq);
CREATE INDEX pijobs_instance_name ON pijobs_instance (queue, name, state, place, seq, due);
CREATE INDEX pijobs_instance_state ON pijobs_instance (queue, state, place, seq);
CREATE INDEX pijobs_instance_subject ON pijobs_instance (queue, subject, state, place, seq) WHERE subject IS NOT NULL;
CREATE TABLE pijobs_meta (
	name TEXT NOT NULL,
	value BIGINT NOT NULL,
	PRIMARY KEY (name)
);
CREATE TABLE pijobs_periodic (
	queue TEXT NOT NULL,
	name TEXT NOT NULL,
	due BIGINT NOT NULL,
	PRIMARY KEY (queue, name)
);
CREATE TABLE pijobs_queue (
	name TEXT NOT NULL,
	paused SMALLINT NOT NULL,
	seen BIGINT,
	PRIMARY KEY (name)
);
CREATE TABLE pijobs_session (
	queue TEXT NOT NULL,
	id TEXT NOT NULL,
	started BIGINT NOT NULL,
	seen BIGINT NOT NULL,
	until BIGINT NOT NULL,
	info TEXT NOT NULL,
	PRIMARY KEY (queue, id)
);
CREATE TABLE pijobs_total (
	queue TEXT NOT NULL,
	name TEXT NOT NULL,
	value DOUBLE NOT NULL,
	PRIMARY KEY (queue, name)
);
INSERT INTO pijobs_meta (name, value) VALUES ('schema', 2);
