// Gives `Load Song` the player and the upload button of core's `Load Audio`, which core gives to its own nodes only.
import { app } from "../../scripts/app.js"

app.registerExtension({
    name: "SINGER.Song",
    beforeRegisterNodeDef(_type, definition) {
        if (definition.name !== "SingerSongLoader") return
        const { audio } = definition.input.required
        audio[1].audio_upload = true
        definition.input.required = { audio, audioUI: ["AUDIO_UI", {}], upload: ["AUDIOUPLOAD", {}] } // in this order
    },
})
