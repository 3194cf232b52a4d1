-- A ledger of the third schema, that came from the second: besides, two answers, an exported correction, stars, and a key.
BEGIN TRANSACTION;
CREATE TABLE artifact (
  sha256 VARCHAR(64) NOT NULL,
  kind VARCHAR(16) NOT NULL,
  needs VARCHAR(64) NOT NULL,
  created VARCHAR(32) NOT NULL,
  PRIMARY KEY (sha256)
);
INSERT INTO "artifact" VALUES('37d54b7f14c28403e0a9a816781dc08ba7326f0bc69cc1e6ecda4ff224d30808','full','','2026-11-21T15:05:43.164+00:00');
INSERT INTO "artifact" VALUES('f42bd10bd221190a168de0cd698d94bfdf09f998ce0e90bbb6637f05af9f2db0','full','','2026-11-21T15:05:43.199+00:00');
INSERT INTO "artifact" VALUES('5ee848d7b808a3e912aff184fd7a81897d0fda8ba82f2c3b40ea2f17a4d00678','full','','2026-11-21T15:05:43.235+00:00');
CREATE TABLE event (
  id INTEGER NOT NULL,
  hash VARCHAR(64) NOT NULL,
  record TEXT NOT NULL, kind VARCHAR(32),
  PRIMARY KEY (id)
);
INSERT INTO "event" VALUES(1,'b6031523a352c94d66fba80a2b2cd3696975412803338cb8af989ae562c1b97e','{"actor":"nacre","detail":{"artifact":"37d54b7f14c28403e0a9a816781dc08ba7326f0bc69cc1e6ecda4ff224d30808","parents":[],"snapshot":"247fe348085b3f58795cf6e766ab5244a973cc5465f8440b9d3b0fbd9cdba44d","version":1},"id":1,"kind":"registered","previous":"","schema_version":1,"time":"2026-11-21T15:05:43.167+00:00"}','registered');
INSERT INTO "event" VALUES(2,'fdbbc8f4efb228a6bb2dffca66b4e5eb08793a40c3732b16a3258048326aea29','{"actor":"nacre","detail":{"artifact":"f42bd10bd221190a168de0cd698d94bfdf09f998ce0e90bbb6637f05af9f2db0","parents":[1],"snapshot":"247fe348085b3f58795cf6e766ab5244a973cc5465f8440b9d3b0fbd9cdba44d","version":2},"id":2,"kind":"registered","previous":"b6031523a352c94d66fba80a2b2cd3696975412803338cb8af989ae562c1b97e","schema_version":1,"time":"2026-11-21T15:05:43.200+00:00"}','registered');
INSERT INTO "event" VALUES(3,'40acbbdc75eb67b4e20991d3822d215914e468f2f7ad379540646f099aa5c78f','{"actor":"nacre","detail":{"artifact":"5ee848d7b808a3e912aff184fd7a81897d0fda8ba82f2c3b40ea2f17a4d00678","parents":[2],"snapshot":"247fe348085b3f58795cf6e766ab5244a973cc5465f8440b9d3b0fbd9cdba44d","version":3},"id":3,"kind":"registered","previous":"fdbbc8f4efb228a6bb2dffca66b4e5eb08793a40c3732b16a3258048326aea29","schema_version":1,"time":"2026-11-21T15:05:43.236+00:00"}','registered');
INSERT INTO "event" VALUES(4,'5a73998ab33d77a94fe35d1a3b711d7bc015a72cc8f542c6695924be4190c597','{"actor":"ann","detail":{"evidence":"","from":null,"generation":1,"left":[],"slots":{"champion":1},"to":1,"why":"first"},"id":4,"kind":"promoted","previous":"40acbbdc75eb67b4e20991d3822d215914e468f2f7ad379540646f099aa5c78f","schema_version":1,"time":"2026-11-21T15:05:43.246+00:00"}','promoted');
INSERT INTO "event" VALUES(5,'c06aafa324fdb21f983c3d436e67fdc7e87e83529b9d5f84b1e7bdcd5860c93c','{"actor":"ann","detail":{"evidence":"","from":1,"generation":2,"left":[],"slots":{"champion":2,"previous-1":1},"to":2,"why":"second"},"id":5,"kind":"promoted","previous":"5a73998ab33d77a94fe35d1a3b711d7bc015a72cc8f542c6695924be4190c597","schema_version":1,"time":"2026-11-21T15:05:43.253+00:00"}','promoted');
INSERT INTO "event" VALUES(6,'799bb0734be3b4d29dadaae3d804cd922aeb7fe33788600c8e919dbe87b545ce','{"actor":"nacre","detail":{"backup":"ledger.db.schema-1","from":1,"to":2},"id":6,"kind":"migrated","previous":"c06aafa324fdb21f983c3d436e67fdc7e87e83529b9d5f84b1e7bdcd5860c93c","schema_version":1,"time":"2026-11-21T18:42:17.016+00:00"}','migrated');
INSERT INTO "event" VALUES(7,'9d0b83d09bdc37d6ae9a12b60db60bdf25f2617f3fccebd34971fd959daaa112','{"actor":"nacre","detail":{"backup":"l.db.schema-2","from":2,"to":3},"id":7,"kind":"migrated","previous":"799bb0734be3b4d29dadaae3d804cd922aeb7fe33788600c8e919dbe87b545ce","schema_version":1,"time":"2026-11-21T21:57:38.589+00:00"}','migrated');
INSERT INTO "event" VALUES(8,'ac4d4f4447cb0a6382ced07800fab5da69094f2849026a937c7f60fae0eac014','{"actor":"harvest","detail":{"increment":"feedback_1","rows":1},"id":8,"kind":"harvested","previous":"9d0b83d09bdc37d6ae9a12b60db60bdf25f2617f3fccebd34971fd959daaa112","schema_version":1,"time":"2026-11-21T21:57:38.635+00:00"}','harvested');
INSERT INTO "event" VALUES(9,'54f58e3c47a1094ef4df48390181f5804d0405386379a8f5f6cc0c2a17c08852','{"actor":"user","detail":{"expires":"","key":"c5bf268d","name":"ann","scopes":["infer"]},"id":9,"kind":"key created","previous":"ac4d4f4447cb0a6382ced07800fab5da69094f2849026a937c7f60fae0eac014","schema_version":1,"time":"2026-11-21T21:57:38.642+00:00"}','key created');
CREATE TABLE feedback (
  id INTEGER NOT NULL,
  time VARCHAR(32) NOT NULL,
  interaction VARCHAR(128) NOT NULL,
  kind VARCHAR(16) NOT NULL,
  status VARCHAR(16) NOT NULL,
  record TEXT NOT NULL,
  PRIMARY KEY (id),
  FOREIGN KEY(interaction) REFERENCES interaction (id)
);
INSERT INTO "feedback" VALUES(1,'t','a','stars','new','{"id":0,"interaction":"a","kind":"stars","schema_version":1,"source":"","status":"new","text":"","time":"t","value":4.0}');
INSERT INTO "feedback" VALUES(2,'2026-05-03T10:00:00.000+00:00','chatcmpl-1','correction','exported','{"id":0,"interaction":"chatcmpl-1","kind":"correction","schema_version":1,"source":"ann","status":"new","text":"better","time":"2026-05-03T10:00:00.000+00:00","value":null}');
INSERT INTO "feedback" VALUES(3,'2026-05-03T10:00:01.000+00:00','chatcmpl-2','stars','new','{"id":0,"interaction":"chatcmpl-2","kind":"stars","schema_version":1,"source":"bob","status":"new","text":"","time":"2026-05-03T10:00:01.000+00:00","value":5.0}');
CREATE TABLE follower (
	name VARCHAR(64) NOT NULL,
	event INTEGER NOT NULL,
	tries INTEGER NOT NULL,
	error TEXT NOT NULL,
	parked TEXT NOT NULL,
	updated VARCHAR(32) NOT NULL,
	PRIMARY KEY (name)
);
CREATE TABLE interaction (
  id VARCHAR(128) NOT NULL,
  time VARCHAR(32) NOT NULL,
  version INTEGER NOT NULL,
  arm VARCHAR(16) NOT NULL,
  session TEXT NOT NULL,
  record TEXT NOT NULL,
  PRIMARY KEY (id)
);
INSERT INTO "interaction" VALUES('a','t',1,'champion','','{"answer":"ok","answer_tokens":0,"arm":"champion","finish":"stop","id":"a","latency_s":0.0,"messages":[{"content":"hi","role":"user","schema_version":1}],"prompt_tokens":0,"schema_version":1,"session":"","time":"t","version":1}');
INSERT INTO "interaction" VALUES('chatcmpl-1','2026-05-01T10:00:00.000+00:00',2,'champion','ssssssssssssssssssssssssssssssss','{"answer":"层","answer_tokens":0,"arm":"champion","finish":"stop","id":"chatcmpl-1","latency_s":0.5,"messages":[{"content":"问题 why?","role":"user","schema_version":1}],"prompt_tokens":0,"schema_version":1,"session":"ssssssssssssssssssssssssssssssss","time":"2026-05-01T10:00:00.000+00:00","twin":"","version":2}');
INSERT INTO "interaction" VALUES('chatcmpl-2','2026-05-02T10:00:00.000+00:00',2,'champion','ssssssssssssssssssssssssssssssss','{"answer":"层","answer_tokens":0,"arm":"champion","finish":"stop","id":"chatcmpl-2","latency_s":0.5,"messages":[{"content":"问题 why?","role":"user","schema_version":1}],"prompt_tokens":0,"schema_version":1,"session":"ssssssssssssssssssssssssssssssss","time":"2026-05-02T10:00:00.000+00:00","twin":"","version":2}');
CREATE TABLE "key" (
	id VARCHAR(16) NOT NULL,
	hash VARCHAR(64) NOT NULL,
	old_hash VARCHAR(64) NOT NULL,
	created VARCHAR(32) NOT NULL,
	record TEXT NOT NULL,
	PRIMARY KEY (id)
);
INSERT INTO "key" VALUES('c5bf268d','8f85ed6a06382bf4138800f20c4eea1154cdcf8f6d9eb2f6797ba489d4246629','','2026-11-21T21:57:38.637+00:00','{"created":"2026-11-21T21:57:38.637+00:00","expires":"","id":"c5bf268d","limits":{"budget":null,"budget_per":"month","concurrency":null,"requests":null,"tokens":null},"name":"ann","old_until":"","revoked":"","rotated":"","schema_version":1,"scopes":["infer"]}');
CREATE TABLE key_use (
	"key" VARCHAR(16) NOT NULL,
	day VARCHAR(10) NOT NULL,
	requests BIGINT NOT NULL,
	tokens BIGINT NOT NULL,
	PRIMARY KEY ("key", day)
);
CREATE TABLE nacre_meta (
  name VARCHAR(32) NOT NULL,
  value VARCHAR(64) NOT NULL,
  PRIMARY KEY (name)
);
INSERT INTO "nacre_meta" VALUES('schema','3');
INSERT INTO "nacre_meta" VALUES('head','54f58e3c47a1094ef4df48390181f5804d0405386379a8f5f6cc0c2a17c08852');
INSERT INTO "nacre_meta" VALUES('events','9');
INSERT INTO "nacre_meta" VALUES('keys','1');
CREATE TABLE release (
	id INTEGER NOT NULL,
	version INTEGER NOT NULL,
	state VARCHAR(16) NOT NULL,
	created VARCHAR(32) NOT NULL,
	record TEXT NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY(version) REFERENCES version (number)
);
CREATE TABLE report (
  "key" VARCHAR(64) NOT NULL,
  weights VARCHAR(64) NOT NULL,
  task TEXT NOT NULL,
  created VARCHAR(32) NOT NULL,
  record TEXT NOT NULL,
  PRIMARY KEY ("key")
);
INSERT INTO "report" VALUES('ffd1d232af9c253057fc05aca16f6962405bee354fc3d58dfd206eca7f6e44a4','wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww','skill','2026-11-21T15:05:43.259+00:00','{"answers":["ja","否"],"decoding":{"max_length":1024,"max_new_tokens":8},"dev":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","latency_s":[],"metric":"exact_match","notes":[],"rows":2,"schema_version":1,"scores":{"exact_match":[1.0,0.0]},"seconds":0.0,"task":"skill","totals":{"bleu":0.1},"weights":"wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww","why":"short"}');
CREATE TABLE review (
	id INTEGER NOT NULL,
	queue VARCHAR(64) NOT NULL,
	status VARCHAR(16) NOT NULL,
	created VARCHAR(32) NOT NULL,
	record TEXT NOT NULL,
	PRIMARY KEY (id)
);
CREATE TABLE slot (
  name VARCHAR(16) NOT NULL,
  version INTEGER,
  generation INTEGER NOT NULL,
  PRIMARY KEY (name),
  FOREIGN KEY(version) REFERENCES version (number)
);
INSERT INTO "slot" VALUES('champion',2,2);
INSERT INTO "slot" VALUES('previous-1',1,2);
CREATE TABLE verdict (
  id INTEGER NOT NULL,
  version INTEGER NOT NULL,
  against INTEGER,
  created VARCHAR(32) NOT NULL,
  record TEXT NOT NULL,
  PRIMARY KEY (id),
  FOREIGN KEY(version) REFERENCES version (number),
  FOREIGN KEY(against) REFERENCES version (number)
);
INSERT INTO "verdict" VALUES(1,2,1,'2026-11-21T15:05:43.267+00:00','{"confidence":0.95,"notes":[],"outcome":"undecided","schema_version":1,"tasks":[{"after":0.5,"before":0.5,"drop":0.0,"interval":[-0.1,0.1],"margin":0.02,"margin_why":"set","metric":"exact_match","more_rows":4,"outcome":"undecided","rows":2,"schema_version":1,"task":"skill","test":"t"}]}');
CREATE TABLE version (
  number INTEGER NOT NULL,
  artifact VARCHAR(64) NOT NULL,
  data_hash VARCHAR(160) NOT NULL,
  created VARCHAR(32) NOT NULL,
  record TEXT NOT NULL,
  PRIMARY KEY (number),
  FOREIGN KEY(artifact) REFERENCES artifact (sha256)
);
INSERT INTO "version" VALUES(1,'37d54b7f14c28403e0a9a816781dc08ba7326f0bc69cc1e6ecda4ff224d30808','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:','2026-11-21T15:05:43.164+00:00','{"artifact":"37d54b7f14c28403e0a9a816781dc08ba7326f0bc69cc1e6ecda4ff224d30808","base":"base","base_sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","created":"2026-11-21T15:05:43.164+00:00","drift":null,"environment":{"device":"cpu","machine":"m","packages":{},"python":"3.11","schema_version":1},"kind":"full","memory":[],"needs":"","number":1,"parents":[],"recipe":{"protect":"auto","train":{"accumulation":1,"batch_size":16,"check_memory":true,"curriculum":"none","deepspeed":null,"early_stopping":null,"epochs":"auto","eval_steps":null,"gradient_checkpointing":false,"learning_rate":"auto","logging_steps":10,"max_grad_norm":1.0,"max_length":1024,"max_steps":null,"min_steps":30,"mix":{},"neftune_alpha":null,"optimizer":null,"precision":"auto","preference":{"beta":0.1,"desirable_weight":1.0,"gamma":0.5,"loss":"sigmoid","sft_weight":0.0,"undesirable_weight":1.0},"processes":1,"report_to":[],"save_steps":200,"scheduler":"cosine","seed":0,"sharding":"none","stage":"sft","template":null,"typo_rows":0.5,"typos":0.0,"warmup":0.05,"weight_decay":0.0},"tune":{"name":"full"}},"schema_version":1,"snapshot":{"dev":null,"dropped":[],"kept":null,"notes":[],"schema_version":1,"sources":{},"task":"skill","train":{"rows":3,"schema_version":1,"sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},"tasks":["skill"],"train_seconds":0.0}');
INSERT INTO "version" VALUES(2,'f42bd10bd221190a168de0cd698d94bfdf09f998ce0e90bbb6637f05af9f2db0','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:','2026-11-21T15:05:43.199+00:00','{"artifact":"f42bd10bd221190a168de0cd698d94bfdf09f998ce0e90bbb6637f05af9f2db0","base":"base","base_sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","created":"2026-11-21T15:05:43.199+00:00","drift":null,"environment":{"device":"cpu","machine":"m","packages":{},"python":"3.11","schema_version":1},"kind":"full","memory":[],"needs":"","number":2,"parents":[1],"recipe":{"protect":"auto","train":{"accumulation":1,"batch_size":16,"check_memory":true,"curriculum":"none","deepspeed":null,"early_stopping":null,"epochs":"auto","eval_steps":null,"gradient_checkpointing":false,"learning_rate":"auto","logging_steps":10,"max_grad_norm":1.0,"max_length":1024,"max_steps":null,"min_steps":30,"mix":{},"neftune_alpha":null,"optimizer":null,"precision":"auto","preference":{"beta":0.1,"desirable_weight":1.0,"gamma":0.5,"loss":"sigmoid","sft_weight":0.0,"undesirable_weight":1.0},"processes":1,"report_to":[],"save_steps":200,"scheduler":"cosine","seed":0,"sharding":"none","stage":"sft","template":null,"typo_rows":0.5,"typos":0.0,"warmup":0.05,"weight_decay":0.0},"tune":{"name":"full"}},"schema_version":1,"snapshot":{"dev":null,"dropped":[],"kept":null,"notes":[],"schema_version":1,"sources":{},"task":"skill","train":{"rows":3,"schema_version":1,"sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},"tasks":["skill"],"train_seconds":0.0}');
INSERT INTO "version" VALUES(3,'5ee848d7b808a3e912aff184fd7a81897d0fda8ba82f2c3b40ea2f17a4d00678','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:','2026-11-21T15:05:43.235+00:00','{"artifact":"5ee848d7b808a3e912aff184fd7a81897d0fda8ba82f2c3b40ea2f17a4d00678","base":"base","base_sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","created":"2026-11-21T15:05:43.235+00:00","drift":null,"environment":{"device":"cpu","machine":"m","packages":{},"python":"3.11","schema_version":1},"kind":"full","memory":[],"needs":"","number":3,"parents":[2],"recipe":{"protect":"auto","train":{"accumulation":1,"batch_size":16,"check_memory":true,"curriculum":"none","deepspeed":null,"early_stopping":null,"epochs":"auto","eval_steps":null,"gradient_checkpointing":false,"learning_rate":"auto","logging_steps":10,"max_grad_norm":1.0,"max_length":1024,"max_steps":null,"min_steps":30,"mix":{},"neftune_alpha":null,"optimizer":null,"precision":"auto","preference":{"beta":0.1,"desirable_weight":1.0,"gamma":0.5,"loss":"sigmoid","sft_weight":0.0,"undesirable_weight":1.0},"processes":1,"report_to":[],"save_steps":200,"scheduler":"cosine","seed":0,"sharding":"none","stage":"sft","template":null,"typo_rows":0.5,"typos":0.0,"warmup":0.05,"weight_decay":0.0},"tune":{"name":"full"}},"schema_version":1,"snapshot":{"dev":null,"dropped":[],"kept":null,"notes":[],"schema_version":1,"sources":{},"task":"skill","train":{"rows":3,"schema_version":1,"sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},"tasks":["skill"],"train_seconds":0.0}');
CREATE INDEX ix_interaction_session ON interaction (session);
CREATE INDEX ix_interaction_time ON interaction (time);
CREATE INDEX ix_interaction_version ON interaction (version);
CREATE INDEX ix_report_task ON report (task);
CREATE INDEX ix_report_weights ON report (weights);
CREATE INDEX ix_feedback_interaction ON feedback (interaction);
CREATE INDEX ix_feedback_status ON feedback (status);
CREATE INDEX ix_version_data_hash ON version (data_hash);
CREATE INDEX ix_verdict_version ON verdict (version);
CREATE INDEX ix_release_version ON release (version);
CREATE INDEX ix_release_state ON release (state);
CREATE INDEX ix_review_status ON review (status);
CREATE INDEX ix_review_queue ON review (queue);
CREATE INDEX ix_event_kind ON event (kind);
COMMIT;
