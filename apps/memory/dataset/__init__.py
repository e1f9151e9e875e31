"""People, the facts about them, and the dialogs and the database that tell these facts."""
