"""What services and jobs share: settings, logs, metrics, storage, registry, chat template, dataset rows."""
