"""The application: settings, wiring, commands. Imported by nobody."""
