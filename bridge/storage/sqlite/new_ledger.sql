CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0014');
CREATE TABLE api_keys (
	key_id VARCHAR NOT NULL, 
	hash VARCHAR NOT NULL, 
	role VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	created_at VARCHAR NOT NULL, 
	expires_at FLOAT, used_at FLOAT, 
	PRIMARY KEY (key_id)
);
CREATE TABLE audit (
	number INTEGER NOT NULL, 
	at VARCHAR NOT NULL, 
	event VARCHAR NOT NULL, 
	session_id VARCHAR NOT NULL, 
	device_id VARCHAR NOT NULL, 
	uid VARCHAR NOT NULL, 
	reason VARCHAR NOT NULL, actor VARCHAR DEFAULT '' NOT NULL, address VARCHAR DEFAULT '' NOT NULL, via VARCHAR DEFAULT '' NOT NULL, note VARCHAR DEFAULT '' NOT NULL, 
	PRIMARY KEY (number)
);
CREATE TABLE bridges (
	instance VARCHAR NOT NULL, 
	run VARCHAR NOT NULL, 
	version VARCHAR NOT NULL, 
	address VARCHAR NOT NULL, 
	seen_s FLOAT NOT NULL, 
	beat BIGINT NOT NULL, 
	backend BIGINT NOT NULL, 
	sockets BIGINT NOT NULL, 
	hears BOOLEAN NOT NULL, 
	draining BOOLEAN NOT NULL, 
	gone BOOLEAN NOT NULL, 
	PRIMARY KEY (instance)
);
CREATE TABLE claims (
	name VARCHAR NOT NULL, 
	at_s FLOAT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE devices (
	device_id VARCHAR NOT NULL, 
	install_id VARCHAR, 
	boot BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	generation BIGINT NOT NULL, 
	claim_uid VARCHAR, 
	logout_url VARCHAR, assigned_uid VARCHAR, state VARCHAR DEFAULT 'seen' NOT NULL, tags VARCHAR DEFAULT '' NOT NULL, version VARCHAR DEFAULT '' NOT NULL, model VARCHAR DEFAULT '' NOT NULL, seen_at VARCHAR, 
	PRIMARY KEY (device_id)
);
CREATE TABLE missed (
	number INTEGER NOT NULL, 
	id VARCHAR NOT NULL, 
	uid VARCHAR NOT NULL, 
	command VARCHAR NOT NULL, 
	device_id VARCHAR NOT NULL, 
	timestamp VARCHAR NOT NULL, received_at VARCHAR, 
	PRIMARY KEY (number)
);
CREATE TABLE models (
	sha256 VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	manifest VARCHAR NOT NULL, 
	signature VARCHAR NOT NULL, 
	golden_sha256 VARCHAR NOT NULL, 
	added_at VARCHAR NOT NULL, 
	data BLOB NOT NULL, 
	golden BLOB NOT NULL, 
	PRIMARY KEY (sha256), 
	UNIQUE (name)
);
CREATE TABLE news (
	number BIGINT NOT NULL, 
	run VARCHAR NOT NULL, 
	changes VARCHAR NOT NULL, 
	PRIMARY KEY (number)
);
CREATE TABLE outbox (
	number INTEGER NOT NULL, 
	device_id VARCHAR NOT NULL, 
	session_id VARCHAR NOT NULL, 
	command_id VARCHAR NOT NULL, 
	uid VARCHAR NOT NULL, 
	generation BIGINT NOT NULL, 
	reason VARCHAR NOT NULL, 
	issued_at VARCHAR NOT NULL, 
	queued_s FLOAT NOT NULL, 
	url VARCHAR, claimed_by VARCHAR, claimed_until_s FLOAT, 
	PRIMARY KEY (number), 
	UNIQUE (device_id, session_id)
);
CREATE TABLE promises (
	uid VARCHAR NOT NULL, 
	until_s FLOAT NOT NULL, 
	floored BOOLEAN NOT NULL, left_s FLOAT, 
	PRIMARY KEY (uid)
);
CREATE TABLE push_subscriptions (
	number INTEGER NOT NULL, 
	uid VARCHAR NOT NULL, 
	endpoint VARCHAR NOT NULL, 
	p256dh VARCHAR NOT NULL, 
	auth VARCHAR NOT NULL, 
	PRIMARY KEY (number), 
	UNIQUE (endpoint)
);
CREATE TABLE rollout_devices (
	rollout BIGINT NOT NULL, 
	device_id VARCHAR NOT NULL, 
	stage BIGINT NOT NULL, 
	state VARCHAR NOT NULL, 
	reason VARCHAR NOT NULL, 
	"before" VARCHAR NOT NULL, 
	asked BIGINT NOT NULL, 
	asked_at FLOAT, 
	watched VARCHAR NOT NULL, 
	PRIMARY KEY (rollout, device_id)
);
CREATE TABLE rollouts (
	number BIGINT NOT NULL, 
	model VARCHAR NOT NULL, 
	tag VARCHAR NOT NULL, 
	stages VARCHAR NOT NULL, 
	pause_s FLOAT NOT NULL, 
	most_failures BIGINT NOT NULL, 
	state VARCHAR NOT NULL, 
	stage BIGINT NOT NULL, 
	settled_at FLOAT, 
	reason VARCHAR NOT NULL, 
	began_at VARCHAR NOT NULL, 
	PRIMARY KEY (number)
);
CREATE TABLE service (
	id INTEGER NOT NULL, 
	seconds FLOAT, opened VARCHAR, turn BIGINT DEFAULT '0' NOT NULL, era_after BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE sessions (
	number INTEGER NOT NULL, 
	session_id VARCHAR NOT NULL, 
	device_id VARCHAR NOT NULL, 
	uid VARCHAR NOT NULL, 
	generation BIGINT NOT NULL, 
	ended VARCHAR, 
	PRIMARY KEY (number), 
	UNIQUE (session_id)
);
CREATE INDEX ix_audit_device_id ON audit (device_id);
CREATE INDEX ix_audit_session_id ON audit (session_id);
CREATE INDEX ix_audit_uid ON audit (uid);
CREATE INDEX ix_devices_claim_uid ON devices (claim_uid);
CREATE INDEX ix_missed_uid ON missed (uid);
CREATE INDEX ix_push_subscriptions_uid ON push_subscriptions (uid);
CREATE INDEX sessions_of_user ON sessions (uid) WHERE ended IS NULL;
CREATE UNIQUE INDEX one_row_per_missed_wake ON missed (id);
CREATE UNIQUE INDEX one_session_per_device ON sessions (device_id) WHERE ended IS NULL;
