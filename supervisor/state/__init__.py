"""The SQLite database: schema, migrations, the one door for every change; numbered locks."""
