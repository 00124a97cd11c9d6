BEGIN TRANSACTION;
CREATE TABLE approvals (
            project TEXT NOT NULL,
            task INTEGER NOT NULL,
            annotation INTEGER NOT NULL,
            kind TEXT NOT NULL,
            annotator INTEGER,
            at TEXT NOT NULL,
            digest TEXT NOT NULL,
            lead_time REAL,
            moment REAL NOT NULL,
            PRIMARY KEY (project, annotation)
        );
INSERT INTO "approvals" VALUES('12.1700000000',7,70,'drawn',5,'2026-03-01T12:00:00.500000Z','digest',3.25,1772366400.5);
CREATE TABLE events (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            project TEXT NOT NULL,
            action TEXT NOT NULL,
            body TEXT NOT NULL,
            received REAL NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            reason TEXT NOT NULL DEFAULT ''
        );
INSERT INTO "events" VALUES(1,'12.1700000000','ANNOTATION_CREATED','{"annotation": {"id": 70}}',10.5,1,'no answer');
CREATE TABLE examples (
            key TEXT PRIMARY KEY,
            project TEXT NOT NULL,
            target TEXT NOT NULL,
            task INTEGER NOT NULL,
            annotation INTEGER NOT NULL,
            kind TEXT NOT NULL,
            annotator INTEGER,
            at TEXT NOT NULL,
            area REAL NOT NULL,
            descriptor BLOB NOT NULL,
            score REAL,
            pinned INTEGER NOT NULL DEFAULT 0,
            sequence TEXT NOT NULL DEFAULT '',
            frame REAL,
            moment REAL NOT NULL,
            image BLOB NOT NULL,
            mask BLOB NOT NULL
        );
INSERT INTO "examples" VALUES('k1','12.1700000000','Cat',7,70,'drawn',5,'2026-03-01T12:00:00.500000Z',0.25,X'00FF',0.5,1,'clip',12.5,1772366400.5,X'89504E4720696D616765',X'89504E47206D61736B');
CREATE TABLE frames (
            project TEXT NOT NULL,
            target TEXT NOT NULL,
            task INTEGER NOT NULL,
            sequence TEXT NOT NULL,
            frame REAL NOT NULL,
            score REAL NOT NULL,
            at REAL NOT NULL,
            image BLOB NOT NULL,
            mask BLOB NOT NULL,
            PRIMARY KEY (project, task, target)
        );
INSERT INTO "frames" VALUES('12.1700000000','Cat',8,'clip',13.0,0.75,100.0,X'89504E4720696D616765',X'89504E47206D61736B');
CREATE TABLE kept (
            project TEXT NOT NULL,
            task INTEGER NOT NULL,
            annotation INTEGER NOT NULL,
            target TEXT NOT NULL,
            revision TEXT NOT NULL,
            iou REAL NOT NULL,
            at REAL NOT NULL,
            PRIMARY KEY (project, annotation, target)
        );
INSERT INTO "kept" VALUES('12.1700000000',7,70,'Cat','r1',0.875,200.0);
CREATE TABLE leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL);
INSERT INTO "leases" VALUES('push/12','worker',11795628134.3519);
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "notes" VALUES('seen','yes');
CREATE TABLE predicted_masks (
            prediction INTEGER NOT NULL REFERENCES predictions (id) ON DELETE CASCADE,
            target TEXT NOT NULL,
            mask BLOB NOT NULL,
            PRIMARY KEY (prediction, target)
        );
INSERT INTO "predicted_masks" VALUES(1,'Cat',X'89504E47');
CREATE TABLE predictions (
            id INTEGER PRIMARY KEY,
            project TEXT NOT NULL,
            task INTEGER NOT NULL,
            revision TEXT NOT NULL,
            at REAL NOT NULL,
            score REAL NOT NULL,
            context TEXT NOT NULL,
            seconds REAL NOT NULL,
            UNIQUE (project, task, revision)
        );
INSERT INTO "predictions" VALUES(1,'12.1700000000',8,'r1',100.0,0.75,'{"Cat": ["k1"]}',1.5);
CREATE TABLE projects (
            key TEXT PRIMARY KEY,
            label_config TEXT NOT NULL DEFAULT '',
            targets TEXT NOT NULL DEFAULT '',
            generation INTEGER NOT NULL DEFAULT 0,
            approvals INTEGER NOT NULL DEFAULT 0,
            reconciled REAL NOT NULL DEFAULT 0,
            signs TEXT NOT NULL DEFAULT ''
        );
INSERT INTO "projects" VALUES('12.1700000000','<View/>','fingerprint',2,1,1700.5,'3/1');
CREATE TABLE prompts (
            project TEXT NOT NULL,
            number INTEGER NOT NULL,
            target TEXT NOT NULL,
            label TEXT NOT NULL,
            checkpoint TEXT NOT NULL,
            status TEXT NOT NULL,
            uses TEXT NOT NULL,
            origin TEXT NOT NULL,
            created REAL NOT NULL,
            figures TEXT NOT NULL,
            examples TEXT NOT NULL,
            withdrawn TEXT NOT NULL,
            activated REAL,
            retired REAL,
            replaced INTEGER,
            reason TEXT NOT NULL,
            content BLOB NOT NULL,
            PRIMARY KEY (project, number)
        );
INSERT INTO "prompts" VALUES('12.1700000000',1,'tag/image/Cat','Cat','embedded-1a2b3c4d','retired','prompt','imported',290.0,'{"iou": 0.5}','[]','[]',290.0,400.25,NULL,'Better by 0.25.',X'006669727374');
INSERT INTO "prompts" VALUES('12.1700000000',2,'tag/image/Cat','Cat','embedded-1a2b3c4d','active','both','tuned',400.25,'{"iou": 0.75, "gain": null}','["k1", "k0"]','["k0"]',400.25,NULL,1,'Better by 0.25.',X'007365636F6E64FF');
CREATE TABLE pushed (
            project TEXT NOT NULL,
            id INTEGER NOT NULL,
            task INTEGER NOT NULL,
            revision TEXT NOT NULL,
            at REAL NOT NULL,
            PRIMARY KEY (project, id)
        );
INSERT INTO "pushed" VALUES('12.1700000000',43,8,'r1',100.0);
CREATE TABLE task_states (
            project TEXT NOT NULL,
            task INTEGER NOT NULL,
            status TEXT NOT NULL,
            reason TEXT NOT NULL,
            revision TEXT NOT NULL,
            at REAL NOT NULL,
            PRIMARY KEY (project, task)
        );
INSERT INTO "task_states" VALUES('12.1700000000',8,'done','','r1',100.0);
CREATE TABLE tuning_states (tuning INTEGER PRIMARY KEY REFERENCES tunings (id), state BLOB NOT NULL);
INSERT INTO "tuning_states" VALUES(2,X'007374617465FF');
CREATE TABLE tunings (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            project TEXT NOT NULL,
            target TEXT NOT NULL,
            status TEXT NOT NULL,
            asked_by TEXT NOT NULL,
            created REAL NOT NULL,
            started REAL,
            ended REAL,
            updated REAL,
            step INTEGER NOT NULL DEFAULT 0,
            steps INTEGER NOT NULL DEFAULT 0,
            loss REAL,
            validation_iou REAL,
            seconds_left REAL,
            checkpoint TEXT NOT NULL DEFAULT '',
            examples TEXT NOT NULL DEFAULT '[]',
            prompt INTEGER,
            reason TEXT NOT NULL DEFAULT '',
            stop INTEGER NOT NULL DEFAULT 0
        );
INSERT INTO "tunings" VALUES(1,'12.1700000000','tag/image/Cat','done','the pool has 16 masks',300.5,310.0,400.25,400.0,150,200,0.125,0.75,0.0,'embedded-1a2b3c4d','["k1", "k0"]',2,'Prompt 2 is active.',0);
INSERT INTO "tunings" VALUES(2,'12.1700000000','tag/image/Cat','running','by hand',500.0,510.0,NULL,520.0,10,200,0.5,NULL,90.5,'embedded-1a2b3c4d','["k1"]',NULL,'',1);
CREATE INDEX approvals_by_task ON approvals (project, task);
CREATE INDEX predictions_by_revision ON predictions (project, revision, task);
CREATE INDEX pushed_by_task ON pushed (project, task, revision);
CREATE INDEX kept_by_time ON kept (project, at);
CREATE UNIQUE INDEX one_active_prompt ON prompts (project, target) WHERE status = 'active';
CREATE UNIQUE INDEX one_open_tuning ON tunings (project, target) WHERE status IN ('queued', 'running');
CREATE INDEX examples_by_annotation ON examples (project, annotation);
CREATE INDEX examples_by_target ON examples (project, target, moment, key);
CREATE INDEX frames_by_place ON frames (project, target, sequence, frame, at);
CREATE INDEX frames_by_time ON frames (project, at);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',1);
INSERT INTO "sqlite_sequence" VALUES('tunings',2);
COMMIT;
PRAGMA user_version = 3;
