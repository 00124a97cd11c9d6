"""The SQLite store's tables and how they came about; knows no records and opens no files.

A store's version is `PRAGMA user_version`. Step n brings a store of version n to version n + 1; the first one makes
it. A step that has been released never changes: whoever needs other tables adds a step, and a golden dump of the
version before to `tests/backend/store/golden`.
"""

STEPS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE projects (
            key TEXT PRIMARY KEY,
            label_config TEXT NOT NULL DEFAULT '',
            targets TEXT NOT NULL DEFAULT '',
            generation INTEGER NOT NULL DEFAULT 0,
            approvals INTEGER NOT NULL DEFAULT 0,
            reconciled REAL NOT NULL DEFAULT 0,
            signs TEXT NOT NULL DEFAULT ''
        )
        """,
        # AUTOINCREMENT: the id of a finished event is never given to another one.
        """
        CREATE TABLE events (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            project TEXT NOT NULL,
            action TEXT NOT NULL,
            body TEXT NOT NULL,
            received REAL NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            reason TEXT NOT NULL DEFAULT ''
        )
        """,
        # `moment` is `at` as Unix seconds: ISO 8601 texts of the same instant need not be equal, nor sort rightly.
        """
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
        )
        """,
        "CREATE INDEX approvals_by_task ON approvals (project, task)",
        # The arrays come last: SQLite reads a row's columns in order, so lists of examples never touch them.
        """
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
            moment REAL NOT NULL,
            image BLOB NOT NULL,
            mask BLOB NOT NULL
        )
        """,
        "CREATE INDEX examples_by_annotation ON examples (project, annotation)",
        "CREATE INDEX examples_by_target ON examples (project, target, moment, key)",
        """
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
        )
        """,
        "CREATE INDEX predictions_by_revision ON predictions (project, revision, task)",
        """
        CREATE TABLE predicted_masks (
            prediction INTEGER NOT NULL REFERENCES predictions (id) ON DELETE CASCADE,
            target TEXT NOT NULL,
            mask BLOB NOT NULL,
            PRIMARY KEY (prediction, target)
        )
        """,
        # A table of its own: a prediction may be replaced while Label Studio still holds what was pushed before.
        """
        CREATE TABLE pushed (
            project TEXT NOT NULL,
            id INTEGER NOT NULL,
            task INTEGER NOT NULL,
            revision TEXT NOT NULL,
            at REAL NOT NULL,
            PRIMARY KEY (project, id)
        )
        """,
        "CREATE INDEX pushed_by_task ON pushed (project, task, revision)",
        """
        CREATE TABLE kept (
            project TEXT NOT NULL,
            task INTEGER NOT NULL,
            annotation INTEGER NOT NULL,
            target TEXT NOT NULL,
            revision TEXT NOT NULL,
            iou REAL NOT NULL,
            at REAL NOT NULL,
            PRIMARY KEY (project, annotation, target)
        )
        """,
        "CREATE INDEX kept_by_time ON kept (project, at)",
        """
        CREATE TABLE task_states (
            project TEXT NOT NULL,
            task INTEGER NOT NULL,
            status TEXT NOT NULL,
            reason TEXT NOT NULL,
            revision TEXT NOT NULL,
            at REAL NOT NULL,
            PRIMARY KEY (project, task)
        )
        """,
        "CREATE TABLE leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL)",
        "CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    ),
    (
        # The tensors come last: lists of versions never touch them. Mappings and sequences are JSON.
        """
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
        )
        """,
        "CREATE UNIQUE INDEX one_active_prompt ON prompts (project, target) WHERE status = 'active'",
        """
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
        )
        """,
        "CREATE UNIQUE INDEX one_open_tuning ON tunings (project, target) WHERE status IN ('queued', 'running')",
        "CREATE TABLE tuning_states (tuning INTEGER PRIMARY KEY REFERENCES tunings (id), state BLOB NOT NULL)",
    ),
    (
        # What lists of examples read must lie before the arrays (see above): so the table is made anew.
        "ALTER TABLE examples RENAME TO examples_before",
        """
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
        )
        """,
        """
        INSERT INTO examples (
            key, project, target, task, annotation, kind, annotator, at, area, descriptor, score, moment, image, mask
        )
        SELECT key, project, target, task, annotation, kind, annotator, at, area, descriptor, score, moment, image, mask
        FROM examples_before
        """,
        "DROP TABLE examples_before",
        "CREATE INDEX examples_by_annotation ON examples (project, annotation)",
        "CREATE INDEX examples_by_target ON examples (project, target, moment, key)",
        """
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
        )
        """,
        "CREATE INDEX frames_by_place ON frames (project, target, sequence, frame, at)",
        "CREATE INDEX frames_by_time ON frames (project, at)",
    ),
)
