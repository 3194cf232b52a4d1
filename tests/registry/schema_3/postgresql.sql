-- A ledger of the third schema, that came from the second: besides, two answers, an exported correction, stars, and a key.
CREATE TABLE artifact (
    sha256 character varying(64) NOT NULL,
    kind character varying(16) NOT NULL,
    needs character varying(64) NOT NULL,
    created character varying(32) NOT NULL
);
CREATE TABLE event (
    id integer NOT NULL,
    hash character varying(64) NOT NULL,
    record text NOT NULL,
    kind character varying(32)
);
CREATE TABLE feedback (
    id integer NOT NULL,
    "time" character varying(32) NOT NULL,
    interaction character varying(128) NOT NULL,
    kind character varying(16) NOT NULL,
    status character varying(16) NOT NULL,
    record text NOT NULL
);
CREATE SEQUENCE feedback_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE feedback_id_seq OWNED BY feedback.id;
CREATE TABLE follower (
    name character varying(64) NOT NULL,
    event integer NOT NULL,
    tries integer NOT NULL,
    error text NOT NULL,
    parked text NOT NULL,
    updated character varying(32) NOT NULL
);
CREATE TABLE interaction (
    id character varying(128) NOT NULL,
    "time" character varying(32) NOT NULL,
    version integer NOT NULL,
    arm character varying(16) NOT NULL,
    session text NOT NULL,
    record text NOT NULL
);
CREATE TABLE key (
    id character varying(16) NOT NULL,
    hash character varying(64) NOT NULL,
    old_hash character varying(64) NOT NULL,
    created character varying(32) NOT NULL,
    record text NOT NULL
);
CREATE TABLE key_use (
    key character varying(16) NOT NULL,
    day character varying(10) NOT NULL,
    requests bigint NOT NULL,
    tokens bigint NOT NULL
);
CREATE TABLE nacre_meta (
    name character varying(32) NOT NULL,
    value character varying(64) NOT NULL
);
CREATE TABLE release (
    id integer NOT NULL,
    version integer NOT NULL,
    state character varying(16) NOT NULL,
    created character varying(32) NOT NULL,
    record text NOT NULL
);
CREATE SEQUENCE release_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE release_id_seq OWNED BY release.id;
CREATE TABLE report (
    key character varying(64) NOT NULL,
    weights character varying(64) NOT NULL,
    task text NOT NULL,
    created character varying(32) NOT NULL,
    record text NOT NULL
);
CREATE TABLE review (
    id integer NOT NULL,
    queue character varying(64) NOT NULL,
    status character varying(16) NOT NULL,
    created character varying(32) NOT NULL,
    record text NOT NULL
);
CREATE SEQUENCE review_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE review_id_seq OWNED BY review.id;
CREATE TABLE slot (
    name character varying(16) NOT NULL,
    version integer,
    generation integer NOT NULL
);
CREATE TABLE verdict (
    id integer NOT NULL,
    version integer NOT NULL,
    against integer,
    created character varying(32) NOT NULL,
    record text NOT NULL
);
CREATE SEQUENCE verdict_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE verdict_id_seq OWNED BY verdict.id;
CREATE TABLE version (
    number integer NOT NULL,
    artifact character varying(64) NOT NULL,
    data_hash character varying(160) NOT NULL,
    created character varying(32) NOT NULL,
    record text NOT NULL
);
ALTER TABLE ONLY feedback ALTER COLUMN id SET DEFAULT nextval('feedback_id_seq'::regclass);
ALTER TABLE ONLY release ALTER COLUMN id SET DEFAULT nextval('release_id_seq'::regclass);
ALTER TABLE ONLY review ALTER COLUMN id SET DEFAULT nextval('review_id_seq'::regclass);
ALTER TABLE ONLY verdict ALTER COLUMN id SET DEFAULT nextval('verdict_id_seq'::regclass);
INSERT INTO artifact VALUES ('37d54b7f14c28403e0a9a816781dc08ba7326f0bc69cc1e6ecda4ff224d30808', 'full', '', '2026-11-21T15:05:43.164+00:00');
INSERT INTO artifact VALUES ('f42bd10bd221190a168de0cd698d94bfdf09f998ce0e90bbb6637f05af9f2db0', 'full', '', '2026-11-21T15:05:43.199+00:00');
INSERT INTO artifact VALUES ('5ee848d7b808a3e912aff184fd7a81897d0fda8ba82f2c3b40ea2f17a4d00678', 'full', '', '2026-11-21T15:05:43.235+00:00');
INSERT INTO event VALUES (1, 'b6031523a352c94d66fba80a2b2cd3696975412803338cb8af989ae562c1b97e', '{"actor":"nacre","detail":{"artifact":"37d54b7f14c28403e0a9a816781dc08ba7326f0bc69cc1e6ecda4ff224d30808","parents":[],"snapshot":"247fe348085b3f58795cf6e766ab5244a973cc5465f8440b9d3b0fbd9cdba44d","version":1},"id":1,"kind":"registered","previous":"","schema_version":1,"time":"2026-11-21T15:05:43.167+00:00"}', 'registered');
INSERT INTO event VALUES (2, 'fdbbc8f4efb228a6bb2dffca66b4e5eb08793a40c3732b16a3258048326aea29', '{"actor":"nacre","detail":{"artifact":"f42bd10bd221190a168de0cd698d94bfdf09f998ce0e90bbb6637f05af9f2db0","parents":[1],"snapshot":"247fe348085b3f58795cf6e766ab5244a973cc5465f8440b9d3b0fbd9cdba44d","version":2},"id":2,"kind":"registered","previous":"b6031523a352c94d66fba80a2b2cd3696975412803338cb8af989ae562c1b97e","schema_version":1,"time":"2026-11-21T15:05:43.200+00:00"}', 'registered');
INSERT INTO event VALUES (3, '40acbbdc75eb67b4e20991d3822d215914e468f2f7ad379540646f099aa5c78f', '{"actor":"nacre","detail":{"artifact":"5ee848d7b808a3e912aff184fd7a81897d0fda8ba82f2c3b40ea2f17a4d00678","parents":[2],"snapshot":"247fe348085b3f58795cf6e766ab5244a973cc5465f8440b9d3b0fbd9cdba44d","version":3},"id":3,"kind":"registered","previous":"fdbbc8f4efb228a6bb2dffca66b4e5eb08793a40c3732b16a3258048326aea29","schema_version":1,"time":"2026-11-21T15:05:43.236+00:00"}', 'registered');
INSERT INTO event VALUES (4, '5a73998ab33d77a94fe35d1a3b711d7bc015a72cc8f542c6695924be4190c597', '{"actor":"ann","detail":{"evidence":"","from":null,"generation":1,"left":[],"slots":{"champion":1},"to":1,"why":"first"},"id":4,"kind":"promoted","previous":"40acbbdc75eb67b4e20991d3822d215914e468f2f7ad379540646f099aa5c78f","schema_version":1,"time":"2026-11-21T15:05:43.246+00:00"}', 'promoted');
INSERT INTO event VALUES (5, 'c06aafa324fdb21f983c3d436e67fdc7e87e83529b9d5f84b1e7bdcd5860c93c', '{"actor":"ann","detail":{"evidence":"","from":1,"generation":2,"left":[],"slots":{"champion":2,"previous-1":1},"to":2,"why":"second"},"id":5,"kind":"promoted","previous":"5a73998ab33d77a94fe35d1a3b711d7bc015a72cc8f542c6695924be4190c597","schema_version":1,"time":"2026-11-21T15:05:43.253+00:00"}', 'promoted');
INSERT INTO event VALUES (6, '1d120fcb1d99f655447c85ad89a5c9485ce1544ebcdff83c9565f06a2e880c4c', '{"actor":"nacre","detail":{"backup":"","from":1,"to":2},"id":6,"kind":"migrated","previous":"c06aafa324fdb21f983c3d436e67fdc7e87e83529b9d5f84b1e7bdcd5860c93c","schema_version":1,"time":"2026-11-21T18:42:18.466+00:00"}', 'migrated');
INSERT INTO event VALUES (7, '20036a052798d683611f8590662514206c80eaec59204d0bf2492b7dac5c75c4', '{"actor":"nacre","detail":{"backup":"","from":2,"to":3},"id":7,"kind":"migrated","previous":"1d120fcb1d99f655447c85ad89a5c9485ce1544ebcdff83c9565f06a2e880c4c","schema_version":1,"time":"2026-11-21T21:57:40.678+00:00"}', 'migrated');
INSERT INTO event VALUES (8, 'bc5f799e888cc26b999b528312cc0a7ef297c230694ed581caffba79bd8b1de9', '{"actor":"harvest","detail":{"increment":"feedback_1","rows":1},"id":8,"kind":"harvested","previous":"20036a052798d683611f8590662514206c80eaec59204d0bf2492b7dac5c75c4","schema_version":1,"time":"2026-11-21T21:57:40.702+00:00"}', 'harvested');
INSERT INTO event VALUES (9, '69c9d9397a54ed1ce7a76d7a452150339e9a8bd5d316420e7b8bfd1e4e106d5f', '{"actor":"user","detail":{"expires":"","key":"4f0aba93","name":"ann","scopes":["infer"]},"id":9,"kind":"key created","previous":"bc5f799e888cc26b999b528312cc0a7ef297c230694ed581caffba79bd8b1de9","schema_version":1,"time":"2026-11-21T21:57:40.707+00:00"}', 'key created');
INSERT INTO feedback VALUES (1, 't', 'a', 'stars', 'new', '{"id":0,"interaction":"a","kind":"stars","schema_version":1,"source":"","status":"new","text":"","time":"t","value":4.0}');
INSERT INTO feedback VALUES (3, '2026-05-03T10:00:01.000+00:00', 'chatcmpl-2', 'stars', 'new', '{"id":0,"interaction":"chatcmpl-2","kind":"stars","schema_version":1,"source":"bob","status":"new","text":"","time":"2026-05-03T10:00:01.000+00:00","value":5.0}');
INSERT INTO feedback VALUES (2, '2026-05-03T10:00:00.000+00:00', 'chatcmpl-1', 'correction', 'exported', '{"id":0,"interaction":"chatcmpl-1","kind":"correction","schema_version":1,"source":"ann","status":"new","text":"better","time":"2026-05-03T10:00:00.000+00:00","value":null}');
INSERT INTO interaction VALUES ('a', 't', 1, 'champion', '', '{"answer":"ok","answer_tokens":0,"arm":"champion","finish":"stop","id":"a","latency_s":0.0,"messages":[{"content":"hi","role":"user","schema_version":1}],"prompt_tokens":0,"schema_version":1,"session":"","time":"t","version":1}');
INSERT INTO interaction VALUES ('chatcmpl-1', '2026-05-01T10:00:00.000+00:00', 2, 'champion', 'ssssssssssssssssssssssssssssssss', '{"answer":"层","answer_tokens":0,"arm":"champion","finish":"stop","id":"chatcmpl-1","latency_s":0.5,"messages":[{"content":"问题 why?","role":"user","schema_version":1}],"prompt_tokens":0,"schema_version":1,"session":"ssssssssssssssssssssssssssssssss","time":"2026-05-01T10:00:00.000+00:00","twin":"","version":2}');
INSERT INTO interaction VALUES ('chatcmpl-2', '2026-05-02T10:00:00.000+00:00', 2, 'champion', 'ssssssssssssssssssssssssssssssss', '{"answer":"层","answer_tokens":0,"arm":"champion","finish":"stop","id":"chatcmpl-2","latency_s":0.5,"messages":[{"content":"问题 why?","role":"user","schema_version":1}],"prompt_tokens":0,"schema_version":1,"session":"ssssssssssssssssssssssssssssssss","time":"2026-05-02T10:00:00.000+00:00","twin":"","version":2}');
INSERT INTO key VALUES ('4f0aba93', 'bccbe8fe78c6a04b03959d88eef2b360c14c9d79e4268c6c3fb58fe14cec948f', '', '2026-11-21T21:57:40.705+00:00', '{"created":"2026-11-21T21:57:40.705+00:00","expires":"","id":"4f0aba93","limits":{"budget":null,"budget_per":"month","concurrency":null,"requests":null,"tokens":null},"name":"ann","old_until":"","revoked":"","rotated":"","schema_version":1,"scopes":["infer"]}');
INSERT INTO nacre_meta VALUES ('schema', '3');
INSERT INTO nacre_meta VALUES ('head', '69c9d9397a54ed1ce7a76d7a452150339e9a8bd5d316420e7b8bfd1e4e106d5f');
INSERT INTO nacre_meta VALUES ('events', '9');
INSERT INTO nacre_meta VALUES ('keys', '1');
INSERT INTO report VALUES ('ffd1d232af9c253057fc05aca16f6962405bee354fc3d58dfd206eca7f6e44a4', 'wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww', 'skill', '2026-11-21T15:05:43.259+00:00', '{"answers":["ja","否"],"decoding":{"max_length":1024,"max_new_tokens":8},"dev":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","latency_s":[],"metric":"exact_match","notes":[],"rows":2,"schema_version":1,"scores":{"exact_match":[1.0,0.0]},"seconds":0.0,"task":"skill","totals":{"bleu":0.1},"weights":"wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww","why":"short"}');
INSERT INTO slot VALUES ('champion', 2, 2);
INSERT INTO slot VALUES ('previous-1', 1, 2);
INSERT INTO verdict VALUES (1, 2, 1, '2026-11-21T15:05:43.267+00:00', '{"confidence":0.95,"notes":[],"outcome":"undecided","schema_version":1,"tasks":[{"after":0.5,"before":0.5,"drop":0.0,"interval":[-0.1,0.1],"margin":0.02,"margin_why":"set","metric":"exact_match","more_rows":4,"outcome":"undecided","rows":2,"schema_version":1,"task":"skill","test":"t"}]}');
INSERT INTO version VALUES (1, '37d54b7f14c28403e0a9a816781dc08ba7326f0bc69cc1e6ecda4ff224d30808', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:', '2026-11-21T15:05:43.164+00:00', '{"artifact":"37d54b7f14c28403e0a9a816781dc08ba7326f0bc69cc1e6ecda4ff224d30808","base":"base","base_sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","created":"2026-11-21T15:05:43.164+00:00","drift":null,"environment":{"device":"cpu","machine":"m","packages":{},"python":"3.11","schema_version":1},"kind":"full","memory":[],"needs":"","number":1,"parents":[],"recipe":{"protect":"auto","train":{"accumulation":1,"batch_size":16,"check_memory":true,"curriculum":"none","deepspeed":null,"early_stopping":null,"epochs":"auto","eval_steps":null,"gradient_checkpointing":false,"learning_rate":"auto","logging_steps":10,"max_grad_norm":1.0,"max_length":1024,"max_steps":null,"min_steps":30,"mix":{},"neftune_alpha":null,"optimizer":null,"precision":"auto","preference":{"beta":0.1,"desirable_weight":1.0,"gamma":0.5,"loss":"sigmoid","sft_weight":0.0,"undesirable_weight":1.0},"processes":1,"report_to":[],"save_steps":200,"scheduler":"cosine","seed":0,"sharding":"none","stage":"sft","template":null,"typo_rows":0.5,"typos":0.0,"warmup":0.05,"weight_decay":0.0},"tune":{"name":"full"}},"schema_version":1,"snapshot":{"dev":null,"dropped":[],"kept":null,"notes":[],"schema_version":1,"sources":{},"task":"skill","train":{"rows":3,"schema_version":1,"sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},"tasks":["skill"],"train_seconds":0.0}');
INSERT INTO version VALUES (2, 'f42bd10bd221190a168de0cd698d94bfdf09f998ce0e90bbb6637f05af9f2db0', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:', '2026-11-21T15:05:43.199+00:00', '{"artifact":"f42bd10bd221190a168de0cd698d94bfdf09f998ce0e90bbb6637f05af9f2db0","base":"base","base_sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","created":"2026-11-21T15:05:43.199+00:00","drift":null,"environment":{"device":"cpu","machine":"m","packages":{},"python":"3.11","schema_version":1},"kind":"full","memory":[],"needs":"","number":2,"parents":[1],"recipe":{"protect":"auto","train":{"accumulation":1,"batch_size":16,"check_memory":true,"curriculum":"none","deepspeed":null,"early_stopping":null,"epochs":"auto","eval_steps":null,"gradient_checkpointing":false,"learning_rate":"auto","logging_steps":10,"max_grad_norm":1.0,"max_length":1024,"max_steps":null,"min_steps":30,"mix":{},"neftune_alpha":null,"optimizer":null,"precision":"auto","preference":{"beta":0.1,"desirable_weight":1.0,"gamma":0.5,"loss":"sigmoid","sft_weight":0.0,"undesirable_weight":1.0},"processes":1,"report_to":[],"save_steps":200,"scheduler":"cosine","seed":0,"sharding":"none","stage":"sft","template":null,"typo_rows":0.5,"typos":0.0,"warmup":0.05,"weight_decay":0.0},"tune":{"name":"full"}},"schema_version":1,"snapshot":{"dev":null,"dropped":[],"kept":null,"notes":[],"schema_version":1,"sources":{},"task":"skill","train":{"rows":3,"schema_version":1,"sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},"tasks":["skill"],"train_seconds":0.0}');
INSERT INTO version VALUES (3, '5ee848d7b808a3e912aff184fd7a81897d0fda8ba82f2c3b40ea2f17a4d00678', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:', '2026-11-21T15:05:43.235+00:00', '{"artifact":"5ee848d7b808a3e912aff184fd7a81897d0fda8ba82f2c3b40ea2f17a4d00678","base":"base","base_sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","created":"2026-11-21T15:05:43.235+00:00","drift":null,"environment":{"device":"cpu","machine":"m","packages":{},"python":"3.11","schema_version":1},"kind":"full","memory":[],"needs":"","number":3,"parents":[2],"recipe":{"protect":"auto","train":{"accumulation":1,"batch_size":16,"check_memory":true,"curriculum":"none","deepspeed":null,"early_stopping":null,"epochs":"auto","eval_steps":null,"gradient_checkpointing":false,"learning_rate":"auto","logging_steps":10,"max_grad_norm":1.0,"max_length":1024,"max_steps":null,"min_steps":30,"mix":{},"neftune_alpha":null,"optimizer":null,"precision":"auto","preference":{"beta":0.1,"desirable_weight":1.0,"gamma":0.5,"loss":"sigmoid","sft_weight":0.0,"undesirable_weight":1.0},"processes":1,"report_to":[],"save_steps":200,"scheduler":"cosine","seed":0,"sharding":"none","stage":"sft","template":null,"typo_rows":0.5,"typos":0.0,"warmup":0.05,"weight_decay":0.0},"tune":{"name":"full"}},"schema_version":1,"snapshot":{"dev":null,"dropped":[],"kept":null,"notes":[],"schema_version":1,"sources":{},"task":"skill","train":{"rows":3,"schema_version":1,"sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},"tasks":["skill"],"train_seconds":0.0}');
SELECT pg_catalog.setval('feedback_id_seq', 3, true);
SELECT pg_catalog.setval('release_id_seq', 1, false);
SELECT pg_catalog.setval('review_id_seq', 1, false);
SELECT pg_catalog.setval('verdict_id_seq', 1, true);
ALTER TABLE ONLY artifact
    ADD CONSTRAINT artifact_pkey PRIMARY KEY (sha256);
ALTER TABLE ONLY event
    ADD CONSTRAINT event_pkey PRIMARY KEY (id);
ALTER TABLE ONLY feedback
    ADD CONSTRAINT feedback_pkey PRIMARY KEY (id);
ALTER TABLE ONLY follower
    ADD CONSTRAINT follower_pkey PRIMARY KEY (name);
ALTER TABLE ONLY interaction
    ADD CONSTRAINT interaction_pkey PRIMARY KEY (id);
ALTER TABLE ONLY key
    ADD CONSTRAINT key_pkey PRIMARY KEY (id);
ALTER TABLE ONLY key_use
    ADD CONSTRAINT key_use_pkey PRIMARY KEY (key, day);
ALTER TABLE ONLY nacre_meta
    ADD CONSTRAINT nacre_meta_pkey PRIMARY KEY (name);
ALTER TABLE ONLY release
    ADD CONSTRAINT release_pkey PRIMARY KEY (id);
ALTER TABLE ONLY report
    ADD CONSTRAINT report_pkey PRIMARY KEY (key);
ALTER TABLE ONLY review
    ADD CONSTRAINT review_pkey PRIMARY KEY (id);
ALTER TABLE ONLY slot
    ADD CONSTRAINT slot_pkey PRIMARY KEY (name);
ALTER TABLE ONLY verdict
    ADD CONSTRAINT verdict_pkey PRIMARY KEY (id);
ALTER TABLE ONLY version
    ADD CONSTRAINT version_pkey PRIMARY KEY (number);
CREATE INDEX ix_event_kind ON event USING btree (kind);
CREATE INDEX ix_feedback_interaction ON feedback USING btree (interaction);
CREATE INDEX ix_feedback_status ON feedback USING btree (status);
CREATE INDEX ix_interaction_session ON interaction USING btree (session);
CREATE INDEX ix_interaction_time ON interaction USING btree ("time");
CREATE INDEX ix_interaction_version ON interaction USING btree (version);
CREATE INDEX ix_release_state ON release USING btree (state);
CREATE INDEX ix_release_version ON release USING btree (version);
CREATE INDEX ix_report_task ON report USING btree (task);
CREATE INDEX ix_report_weights ON report USING btree (weights);
CREATE INDEX ix_review_queue ON review USING btree (queue);
CREATE INDEX ix_review_status ON review USING btree (status);
CREATE INDEX ix_verdict_version ON verdict USING btree (version);
CREATE INDEX ix_version_data_hash ON version USING btree (data_hash);
ALTER TABLE ONLY feedback
    ADD CONSTRAINT feedback_interaction_fkey FOREIGN KEY (interaction) REFERENCES interaction(id);
ALTER TABLE ONLY release
    ADD CONSTRAINT release_version_fkey FOREIGN KEY (version) REFERENCES version(number);
ALTER TABLE ONLY slot
    ADD CONSTRAINT slot_version_fkey FOREIGN KEY (version) REFERENCES version(number);
ALTER TABLE ONLY verdict
    ADD CONSTRAINT verdict_against_fkey FOREIGN KEY (against) REFERENCES version(number);
ALTER TABLE ONLY verdict
    ADD CONSTRAINT verdict_version_fkey FOREIGN KEY (version) REFERENCES version(number);
ALTER TABLE ONLY version
    ADD CONSTRAINT version_artifact_fkey FOREIGN KEY (artifact) REFERENCES artifact(sha256);
