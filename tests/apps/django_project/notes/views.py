"""Views of the notes, and others that exercise the server for Django."""

import hashlib
import json

from django.http import FileResponse, HttpResponseNotAllowed, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt

from django_project.notes.models import Note


@csrf_exempt
def notes(request):
    """Lists all notes, or creates one."""
    if request.method == "GET":
        return JsonResponse({"notes": list(Note.objects.order_by("id").values_list("text", flat=True))})
    if request.method == "POST":
        made = Note.objects.create(text=json.loads(request.body)["text"])
        return JsonResponse({"id": made.id}, status=201)
    return HttpResponseNotAllowed(["GET", "POST"])


def note(request, number):
    """One note."""
    found = get_object_or_404(Note, pk=number)
    return JsonResponse({"id": found.id, "text": found.text})


@csrf_exempt
def form(request):
    """Returns the fields of a form."""
    return JsonResponse(request.POST.dict())


@csrf_exempt
def upload(request):
    """Returns the size and the hash of an uploaded file."""
    sent = request.FILES["file"]
    sha256 = hashlib.sha256()
    for piece in sent.chunks():
        sha256.update(piece)
    return JsonResponse({"name": sent.name, "size_bytes": sent.size, "sha256": sha256.hexdigest()})


def stream(request):
    """Streams a thousand lines."""
    return StreamingHttpResponse((f"line {number}\n" for number in range(1000)), content_type="text/plain")


def file(request):
    """Sends this file, which Django passes to wsgi.file_wrapper."""
    return FileResponse(open(__file__, "rb"), content_type="text/x-python")


def report(request):
    """A slow view: it adds up numbers in Python."""
    return JsonResponse({"sum": slow_sum(100_000)})


def slow_sum(count):
    """Adds up squares."""
    total = 0
    for number in range(count):
        total += number * number
    return total
