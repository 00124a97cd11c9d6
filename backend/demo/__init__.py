"""The newcomer's demo: a real Label Studio, drawn pictures and a scripted first look; nothing else imports it."""
